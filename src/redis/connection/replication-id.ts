/**
 * A Lua function: returns the replication id of this Redis, or nil if it does not tell. It changes when a replica becomes the primary
 * (https://redis.io/docs/latest/operate/oss_and_stack/management/replication/): what was written just before may be lost then.
 */
export const REPLICATION_ID = `
local function replication_id()
  return string.match(redis.call('INFO', 'replication'), 'master_replid:(%x+)')
end
`;
