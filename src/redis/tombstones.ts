import { fullId } from "../domain/ids.ts";
import { parseRevision } from "../domain/revision.ts";
import { type Tombstone, tombstone } from "../domain/tombstone.ts";
import type { RedisClient } from "./client.ts";
import type { Keys } from "./keys.ts";
import { defineScript } from "./script.ts";
import { readRequired } from "./unreadable.ts";

/** How long tombstones outlive a node that was forgotten: it may come back with its disk, and start what has moved away. */
export const FORGOTTEN_KEPT_MS = 7 * 86_400_000;
/** Field beside the words: when the node was forgotten. No stitch can have this id. */
export const FORGOTTEN_AT = "forgottenAt";

/**
 * Leaves word for a node that is away. KEYS gone. ARGV stitch, revision, wave, tombstone.
 * Returns 1 where the word stands: it was left, or a newer one says the same. 0 where a newer one says something else.
 * Atomic: of two Masters that leave word at once, the newer word must stay.
 */
const leave = defineScript<[gone: string]>(
  "leave_tombstone",
  1,
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
return 1
`,
);

/**
 * Counts the words left, in the node's own hash, where its heartbeat sees that there is one to obey. KEYS meta. Returns 0
 * where there is no such node: a hash with nothing else in it is none. A word that is counted twice costs a look.
 */
const count = defineScript<[meta: string]>(
  "count_word",
  1,
  `
if redis.call('HEXISTS', KEYS[1], 'incarnation') == 0 then return 0 end
redis.call('HINCRBY', KEYS[1], 'words', 1)
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
  const gone = keys.nodeGone(node);
  if ((await leave.call(redis, [gone], [stitch, revision, wave, JSON.stringify(word)])) !== 1) return false;
  // One key at a time: see `beat` in node-record.ts.
  const isThere = (await count.call(redis, [keys.nodeMeta(node)], [])) === 1;
  if (isThere) await Promise.all([redis.hdel(gone, FORGOTTEN_AT), redis.persist(gone)]);
  else await redis.pexpire(gone, FORGOTTEN_KEPT_MS);
  return true;
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
  const words = gone.filter(([field]) => field !== FORGOTTEN_AT);
  return new Map(words.map(([stitch, text]) => [stitch, wordIn(keys, node, stitch, text)]));
}

/** @throws UnreadableRecord: to take it for none would start what a Master has moved away. */
const wordIn = (keys: Keys, node: string, stitch: string, text: string): Tombstone =>
  readRequired(tombstone, text, { id: fullId(node, stitch), key: keys.nodeGone(node), field: stitch });
