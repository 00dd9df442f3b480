import * as z from "zod";
import { compareRevisions, parseRevision, revisionText } from "../domain/revision.ts";
import type { StitchRecord } from "../domain/stitch.ts";
import type { RedisClient } from "./client.ts";
import type { Keys } from "./keys.ts";
import { defineScript } from "./script.ts";

/** Among a node's orders; the rest is the stitch's id. */
const FIELD = "gone:";

const tombstone = z.object({
  revision: revisionText,
  movedTo: z.string().nullable(),
  /** It speaks only of a stitch that has come from this full id and has not settled; null where it speaks of any. */
  arrivingFrom: z.string().nullable().default(null),
});
export type Tombstone = z.output<typeof tombstone>;

/**
 * Leaves word for a node that is away. KEYS orders. ARGV field, revision, wave, tombstone.
 * Returns 1 where it was left, 0 where a newer one is there.
 */
const leave = defineScript<[orders: string]>(
  "leave_tombstone",
  1,
  `
local before = redis.call('HGET', KEYS[1], ARGV[1])
if before then
  local revision, wave = string.match(cjson.decode(before).revision, '^(%d+)%.(%d+)$')
  revision, wave = tonumber(revision), tonumber(wave)
  if revision > tonumber(ARGV[2]) or (revision == tonumber(ARGV[2]) and wave >= tonumber(ARGV[3])) then return 0 end
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[4])
redis.call('HINCRBY', KEYS[1], 'tombstones', 1)
return 1
`,
);

/**
 * Tells a node that cannot be asked that a stitch of its is gone, or moved: it obeys when it registers, before it starts
 * anything; and where it is back by now, with its next heartbeat. Safe to repeat.
 */
export async function leaveTombstone(
  redis: RedisClient,
  keys: Keys,
  node: string,
  stitch: string,
  tombstone: Tombstone,
): Promise<void> {
  const { revision, wave } = parseRevision(tombstone.revision);
  await leave.call(redis, [keys.nodeOrders(node)], [FIELD + stitch, revision, wave, JSON.stringify(tombstone)]);
}

/** Does a tombstone speak of this stitch, and has nothing newer been applied to it? Then its node will bury it. */
export const buries = (
  { revision, arrivingFrom }: Tombstone,
  record: Pick<StitchRecord, "revision" | "movedFrom">,
): boolean =>
  (arrivingFrom === null || record.movedFrom === arrivingFrom) &&
  compareRevisions(parseRevision(revision), parseRevision(record.revision)) > 0;

/** What a Master has decided last about one stitch of a node while it was away; null where nothing. */
export async function readTombstone(
  redis: RedisClient,
  keys: Keys,
  node: string,
  stitch: string,
): Promise<Tombstone | null> {
  const text = await redis.hget(keys.nodeOrders(node), FIELD + stitch);
  return text === null ? null : tombstone.parse(JSON.parse(text));
}

/** What Masters have decided about stitches of a node while it was away, by stitch id. */
export async function readTombstones(
  redis: RedisClient,
  keys: Keys,
  node: string,
): Promise<ReadonlyMap<string, Tombstone>> {
  const orders = await redis.hgetall(keys.nodeOrders(node));
  const found = Object.entries(orders).filter(([field]) => field.startsWith(FIELD));
  return new Map(found.map(([field, text]) => [field.slice(FIELD.length), tombstone.parse(JSON.parse(text))]));
}
