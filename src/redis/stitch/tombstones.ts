import { fullId } from "../../domain/names/ids.ts";
import { parseRevision } from "../../domain/names/revision.ts";
import { type Tombstone, tombstone } from "../../domain/job/tombstone.ts";
import type { RedisClient } from "../connection/client.ts";
import type { Keys } from "../keys.ts";
import { defineScript } from "../connection/script.ts";
import { type OnUnreadable, readField, readKey, refuse } from "../unreadable.ts";

/** How long tombstones outlive a forgotten node: the node may come back with its disk, and start moved stitches. */
export const FORGOTTEN_KEPT_MS = 7 * 86_400_000;
/** How long a tombstone is kept that a node has obeyed: the node's disk may be restored from a backup. */
const OBEYED_KEPT_MS = 7 * 86_400_000;
/** Field beside the tombstones: when the node was forgotten. No stitch can have this id. */
export const FORGOTTEN_AT = "forgottenAt";

/**
 * Writes a tombstone for a stitch of a node that is away. KEYS gone. ARGV stitch, revision, wave, tombstone.
 * Returns 1 if the tombstone holds: it was written, or a newer one says the same; 0 if a newer one says something else.
 * Atomic: if two Masters write a tombstone at once, the newer one must stay.
 */
const leave = defineScript<[gone: string]>(
  "leave_tombstone",
  1,
  `
local text, stone = redis.pcall('HGET', KEYS[1], ARGV[1]), cjson.decode(ARGV[4])
if type(text) == 'table' then
  redis.call('DEL', KEYS[1])
  text = false
end
local read, was = pcall(cjson.decode, text or '')
if read and type(was) == 'table' and type(was.revision) == 'string' then
  local revision, wave = string.match(was.revision, '^(%d+)%.(%d+)$')
  revision, wave = tonumber(revision or 0), tonumber(wave or 0)
  if revision > tonumber(ARGV[2]) or (revision == tonumber(ARGV[2]) and wave >= tonumber(ARGV[3])) then
    local same = was.movedTo == stone.movedTo and was.arrivingFrom == stone.arrivingFrom and was.born == stone.born
    return same and 1 or 0
  end
end
stone.atMs = now
redis.call('HSET', KEYS[1], ARGV[1], cjson.encode(stone))
return 1
`,
);

/** Drops tombstones that are older. KEYS gone. ARGV ms. One without a time gets a time; one that cannot be read stays. */
const dropOld = defineScript<[gone: string]>(
  "drop_old_tombstones",
  1,
  `
local all = redis.pcall('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  local read, stone = pcall(cjson.decode, all[i + 1])
  if read and type(stone) == 'table' then
    if type(stone.atMs) ~= 'number' then
      stone.atMs = now
      redis.call('HSET', KEYS[1], all[i], cjson.encode(stone))
    elseif stone.atMs < now - ARGV[1] then
      redis.call('HDEL', KEYS[1], all[i])
    end
  end
end
return 1
`,
);

/**
 * Counts a new tombstone in the node's own hash, so that the node's heartbeat sees that there is a tombstone to obey. KEYS
 * meta. Returns 0 if the node does not exist: a hash that has only this count is not a node. A tombstone that is counted
 * twice costs one more read.
 */
const count = defineScript<[meta: string]>(
  "count_word",
  1,
  `
if redis.pcall('HEXISTS', KEYS[1], 'incarnation') ~= 1 then return 0 end
redis.call('HINCRBY', KEYS[1], 'words', 1)
return 1
`,
);

/**
 * Writes a tombstone for a node that cannot be asked: one of its stitches is removed, or has moved. The node obeys when it
 * registers, before it starts anything; if it is back by now, at its next heartbeat. Safe to repeat.
 * @returns true if the tombstone holds; false if a newer one says something else.
 */
export async function leaveTombstone(
  redis: RedisClient,
  keys: Keys,
  node: string,
  stitch: string,
  left: Tombstone,
): Promise<boolean> {
  const { revision, wave } = parseRevision(left.revision);
  const gone = keys.nodeGone(node);
  if ((await leave.call(redis, [gone], [stitch, revision, wave, JSON.stringify(left)])) !== 1) return false;
  // One key at a time: see `beat` in node-lease.ts.
  const isThere = (await count.call(redis, [keys.nodeMeta(node)], [])) === 1;
  if (isThere) await Promise.all([redis.hdel(gone, FORGOTTEN_AT), redis.persist(gone)]);
  else await redis.pexpire(gone, FORGOTTEN_KEPT_MS);
  return true;
}

/**
 * The last decision of a Master about one stitch of a node while the node was away; null if there is none, or if it cannot
 * be read, unless `onUnreadable` throws.
 */
export async function readTombstone(
  redis: RedisClient,
  keys: Keys,
  node: string,
  stitch: string,
  onUnreadable: OnUnreadable,
): Promise<Tombstone | null> {
  const key = keys.nodeGone(node);
  const text = await readKey({ id: fullId(node, stitch), key }, redis.hget(key, stitch), null, onUnreadable);
  return text === null
    ? null
    : readField(tombstone, text, { id: fullId(node, stitch), key, field: stitch }, onUnreadable);
}

/**
 * What Masters have decided about stitches of a node while the node was away, by stitch id, without what cannot be read.
 * @throws UnreadableRecord if none of it can be read: to take that for no tombstones would start stitches that a Master has
 *   moved away.
 */
export async function readTombstones(
  redis: RedisClient,
  keys: Keys,
  node: string,
  onUnreadable: OnUnreadable,
): Promise<ReadonlyMap<string, Tombstone>> {
  const key = keys.nodeGone(node);
  const gone = Object.entries(await readKey({ id: node, key }, redis.hgetall(key), {}, refuse));
  const tombstones = gone.filter(([field]) => field !== FORGOTTEN_AT);
  const read = tombstones.map(([field, text]) => {
    return [field, readField(tombstone, text, { id: fullId(node, field), key, field }, onUnreadable)] as const;
  });
  return new Map(read.flatMap(([stitch, found]) => (found === null ? [] : [[stitch, found] as const])));
}

/** Those of the nodes that have tombstones for their stitches. */
export async function nodesWithTombstones(redis: RedisClient, keys: Keys, nodes: readonly string[]): Promise<string[]> {
  const there = await Promise.all(nodes.map((node) => redis.exists(keys.nodeGone(node))));
  return nodes.filter((_, index) => there[index] === 1);
}

/** Drops the tombstones that are older than a week, of a node that has obeyed them. */
export async function dropOldTombstones(redis: RedisClient, keys: Keys, node: string): Promise<void> {
  await dropOld.call(redis, [keys.nodeGone(node)], [OBEYED_KEPT_MS]);
}
