import { fullId } from "../domain/ids.ts";
import { parseRevision } from "../domain/revision.ts";
import { type Tombstone, tombstone } from "../domain/tombstone.ts";
import type { RedisClient } from "./client.ts";
import type { Keys } from "./keys.ts";
import { defineScript } from "./script.ts";
import { readRequired } from "./unreadable.ts";

/** How long tombstones outlive a node that was forgotten: it may come back with its disk, and start what has moved away. */
export const FORGOTTEN_KEPT_MS = 7 * 86_400_000;

/**
 * Leaves word for a node that is away. KEYS gone, meta, orders. ARGV stitch, revision, wave, tombstone.
 * Returns 1 where the word stands: it was left, or a newer one says the same. 0 where a newer one says something else.
 * The words left are counted in `meta`, where the node's heartbeat sees that there is one to obey; only where there is a
 * node, because a hash with nothing else in it is none.
 * Atomic: of two Masters that leave word at once, the newer word must stay.
 */
const leave = defineScript<[gone: string, meta: string, orders: string]>(
  "leave_tombstone",
  3,
  // merged by the lead: the count in `orders`, which today's heartbeat reads.
  `
local text = redis.call('HGET', KEYS[1], ARGV[1])
if text then
  local was, word = cjson.decode(text), cjson.decode(ARGV[4])
  local revision, wave = string.match(was.revision, '^(%d+)%.(%d+)$')
  revision, wave = tonumber(revision), tonumber(wave)
  if revision > tonumber(ARGV[2]) or (revision == tonumber(ARGV[2]) and wave >= tonumber(ARGV[3])) then
    local same = was.movedTo == word.movedTo and was.arrivingFrom == word.arrivingFrom and was.born == word.born
    return same and 1 or 0
  end
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[4])
if redis.call('HEXISTS', KEYS[2], 'incarnation') == 1 then
  redis.call('PERSIST', KEYS[1])
  redis.call('HINCRBY', KEYS[2], 'words', 1)
else
  redis.call('PEXPIRE', KEYS[1], ${FORGOTTEN_KEPT_MS})
end
redis.call('HINCRBY', KEYS[3], 'tombstones', 1)
return 1
`,
);

/**
 * Tells a node that cannot be asked that a stitch of its is gone, or moved: it obeys when it registers, before it starts
 * anything; and where it is back by now, with its next heartbeat. Safe to repeat.
 * @returns whether the word stands; false where a newer one says something else.
 */
export async function leaveTombstone(
  redis: RedisClient,
  keys: Keys,
  node: string,
  stitch: string,
  word: Tombstone,
): Promise<boolean> {
  const { revision, wave } = parseRevision(word.revision);
  const reply = await leave.call(
    redis,
    [keys.nodeGone(node), keys.nodeMeta(node), keys.nodeOrders(node)],
    [stitch, revision, wave, JSON.stringify(word)],
  );
  return reply === 1;
}

/** What a Master has decided last about one stitch of a node while it was away; null where nothing. */
export async function readTombstone(
  redis: RedisClient,
  keys: Keys,
  node: string,
  stitch: string,
): Promise<Tombstone | null> {
  const text = await redis.hget(keys.nodeGone(node), stitch);
  return text === null ? null : wordIn(keys, node, stitch, text);
}

/** What Masters have decided about stitches of a node while it was away, by stitch id. */
export async function readTombstones(
  redis: RedisClient,
  keys: Keys,
  node: string,
): Promise<ReadonlyMap<string, Tombstone>> {
  const gone = Object.entries(await redis.hgetall(keys.nodeGone(node)));
  return new Map(gone.map(([stitch, text]) => [stitch, wordIn(keys, node, stitch, text)]));
}

/** @throws UnreadableRecord: to take it for none would start what a Master has moved away. */
const wordIn = (keys: Keys, node: string, stitch: string, text: string): Tombstone =>
  readRequired(tombstone, text, { id: fullId(node, stitch), key: keys.nodeGone(node), field: stitch });
