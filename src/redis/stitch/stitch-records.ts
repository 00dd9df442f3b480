import * as z from "zod";
import { fullId, splitFullId, stitchId } from "../../domain/names/ids.ts";
import type { NodeStatus } from "../../domain/node/node.ts";
import { type RemovedRecord, removedRecord, type StitchRecord, stitchRecord } from "../../domain/stitch/stitch.ts";
import { buries, type Tombstone } from "../../domain/job/tombstone.ts";
import type { RedisClient } from "../connection/client.ts";
import type { Keys } from "../keys.ts";
import { defineScript } from "../connection/script.ts";
import { readTombstone } from "./tombstones.ts";
import { type OnUnreadable, readField, readKey, refuse, writeIndex } from "../unreadable.ts";
import { addPointers, dropPointers, handOver } from "./pointers.ts";

/**
 * A change of one stitch that its node publishes. `isNew`: its pointers may not be in Redis yet. For a removed stitch: the
 * pointers to the stitch that it has moved to; from then on, the node of that stitch maintains them.
 */
export type StitchChange =
  | { readonly kind: "set"; readonly record: StitchRecord; readonly isNew: boolean }
  | { readonly kind: "removed"; readonly record: RemovedRecord; readonly isNew: boolean };

/**
 * Writes what has become of a node's stitches, with the node's status and the number of this publication.
 * KEYS meta, stitches, removed. ARGV incarnation, number of the last publication that Redis is known to have, number of
 * this one, status, how many records follow; then stitch, record, …; then removed stitch, removed record, ….
 * Returns {'ok'}; {'behind', number} if Redis has lost publications since, or holds other data in their place: then nothing
 * is written, because the new number would hide the loss; {'late'} if a later publication is there; {'other'} if the id
 * belongs to another incarnation.
 * Atomic: a publication is there as a whole, with its number, or not at all; and a delayed publication must not overwrite
 * what the node's next incarnation has published.
 */
const publish = defineScript<[meta: string, stitches: string, removed: string]>(
  "publish_stitches",
  3,
  `
local lost = only(KEYS[2], 'hash')
lost = only(KEYS[3], 'hash') or lost
local m = redis.call('HMGET', KEYS[1], 'incarnation', 'published')
if m[1] ~= ARGV[1] then return {'other'} end
if lost then redis.call('HSET', KEYS[1], 'published', 0) end
local last = lost and 0 or tonumber(m[2] or 0) or 0
if last < tonumber(ARGV[2]) then return {'behind', last} end
if last >= tonumber(ARGV[3]) then return {'late'} end
redis.call('HSET', KEYS[1], 'published', ARGV[3], 'status', ARGV[4])
local first = 6 + 2 * ARGV[5]
if first > 6 then redis.call('HSET', KEYS[2], unpack(ARGV, 6, first - 1)) end
if #ARGV >= first then redis.call('HSET', KEYS[3], unpack(ARGV, first)) end
for i = first, #ARGV, 2 do redis.call('HDEL', KEYS[2], ARGV[i]) end
return {'ok'}
`,
);

/** Changes in one call: other clients of Redis wait meanwhile, and Lua takes only a limited number of arguments. */
const CHANGES_AT_ONCE = 500;

const CHARACTERS_AT_ONCE = 1024 * 1024;

const publishReply = z.union([z.tuple([z.enum(["ok", "late", "other"])]), z.tuple([z.literal("behind"), z.int()])]);

/**
 * A field in the hashes of a node's stitches. With it they are never empty, so they always exist: a script over several keys is
 * refused (TRYAGAIN) if one of the keys does not exist while a Redis Cluster moves their slot. No stitch can have this id.
 */
export const NEVER_EMPTY = "_";

/** Creates the hashes of a node's stitches, before the node publishes any. Safe to repeat. */
export async function openStitchHashes(redis: RedisClient, keys: Keys, node: string): Promise<void> {
  const hashes = [keys.nodeStitches(node), keys.nodeRemoved(node)];
  await Promise.all(hashes.map((key) => writeIndex(redis, key, "hash", () => redis.hset(key, NEVER_EMPTY, ""))));
}

/** The incarnation, and the numbers, with which a node publishes. */
export type Publication = {
  readonly incarnation: number;
  /** The number of the last publication that Redis is known to have; 0 after the registration. */
  readonly known: number;
  /** Draws the next number. No number is drawn twice, even if it is unknown what became of the first write. */
  readonly draw: () => number;
};

export type Published =
  /** `number`: of the last publication that Redis has now. */
  | { readonly kind: "ok"; readonly number: number }
  /** Redis has lost what was published after `number`. Some or none of these changes were written. */
  | { readonly kind: "behind"; readonly number: number }
  /** In Redis, the id belongs to another incarnation. Some or none of these changes were written. */
  | { readonly kind: "other" };

/**
 * Publishes changes of a node's stitches. Pointers are written before the record that they point to, and dropped after the
 * record, so that a crash leaves at worst a stale pointer. Two round trips at most, whatever the number of changes. Safe to
 * repeat with a higher number.
 *
 * @param receives does the node now have a stitch of the group that takes messages?
 */
export async function publishStitches(
  redis: RedisClient,
  keys: Keys,
  node: string,
  changes: readonly StitchChange[],
  status: NodeStatus,
  receives: (group: string) => boolean,
  { incarnation, known, draw }: Publication,
): Promise<Published> {
  const pointers = changes.flatMap((change) =>
    change.kind === "set" && change.isNew ? addPointers(redis, keys, node, change.record) : [],
  );
  await Promise.all(pointers);
  // The status goes with the stitches, not with the next heartbeat: placement uses the reserved resources.
  const statusText = JSON.stringify(status);
  let number = known;
  const replies = await Promise.all(
    inParts(changes).map((part) => {
      const before = number;
      number = draw();
      const texts = (kind: StitchChange["kind"]) =>
        part.filter((row) => row.change.kind === kind).flatMap(({ change, text }) => [change.record.id, text]);
      const set = texts("set");
      return publish.call(
        redis,
        [keys.nodeMeta(node), keys.nodeStitches(node), keys.nodeRemoved(node)],
        [incarnation, before, number, statusText, set.length / 2, ...set, ...texts("removed")],
      );
    }),
  );
  for (const reply of replies) {
    const [kind, at] = publishReply.parse(reply);
    // A later publication is there, though this connection has sent none: an answer was lost, and its number with it.
    if (kind === "late") throw new Error("a later publication than this one is in Redis; it is tried again");
    if (kind === "other") return { kind };
    if (kind === "behind") return { kind, number: at };
  }
  await Promise.all(
    changes.flatMap((change) =>
      change.kind === "removed"
        ? [
            ...(change.isNew ? handOver(redis, keys, change.record) : []),
            ...dropPointers(redis, keys, node, change.record, receives(change.record.group)),
          ]
        : [],
    ),
  );
  return { kind: "ok", number };
}

type Row = { readonly change: StitchChange; readonly text: string };

/** Splits the changes into at least one part: the status is published without changes, too. */
function inParts(changes: readonly StitchChange[]): Row[][] {
  const parts: Row[][] = [];
  let part: Row[] = [];
  let characters = 0;
  for (const change of changes) {
    const text = JSON.stringify(change.record);
    if (part.length === CHANGES_AT_ONCE || (part.length > 0 && characters + text.length > CHARACTERS_AT_ONCE)) {
      parts.push(part);
      part = [];
      characters = 0;
    }
    part.push({ change, text });
    characters += text.length;
  }
  return [...parts, part];
}

/** Deletes the removed records of stitches. */
export async function forgetRemoved(
  redis: RedisClient,
  keys: Keys,
  node: string,
  ids: readonly string[],
): Promise<void> {
  if (ids.length > 0) await redis.hdel(keys.nodeRemoved(node), ...ids);
}

/**
 * Everything that Redis holds about a node's stitches, without records that cannot be read. The node merges it with its
 * disk when it registers.
 */
export async function readOwnStitches(
  redis: RedisClient,
  keys: Keys,
  node: string,
  onUnreadable: OnUnreadable,
): Promise<{ stitches: StitchRecord[]; removed: RemovedRecord[] }> {
  const [stitches, removed] = await Promise.all([
    readStitchesOfNode(redis, keys, node, onUnreadable),
    readAll(redis, node, keys.nodeRemoved(node), removedRecord, onUnreadable),
  ]);
  return { stitches, removed };
}

/** The records of a node's stitches, without those that cannot be read. One round trip. */
export function readStitchesOfNode(
  redis: RedisClient,
  keys: Keys,
  node: string,
  onUnreadable: OnUnreadable,
): Promise<StitchRecord[]> {
  return readAll(redis, node, keys.nodeStitches(node), stitchRecord, onUnreadable);
}

async function readAll<T>(
  redis: RedisClient,
  node: string,
  key: string,
  schema: z.ZodType<T>,
  onUnreadable: OnUnreadable,
): Promise<T[]> {
  return Object.entries(await readKey({ id: node, key }, redis.hgetall(key), {}, onUnreadable))
    .filter(([field]) => field !== NEVER_EMPTY)
    .map(([field, text]) => readField(schema, text, { id: fullId(node, field), key, field }, onUnreadable))
    .filter((record) => record !== null);
}

/**
 * Everything that is known about a full id (see `Traces`). A part that cannot be read is null, unless `onUnreadable`
 * throws. One round trip.
 */
export async function readTraces(redis: RedisClient, keys: Keys, id: string, onUnreadable: OnUnreadable = refuse) {
  const { node, stitch } = splitFullId(id);
  const [[record = null], removed, left] = await Promise.all([
    readStitches(redis, keys, [id], onUnreadable),
    readRemoved(redis, keys, id, onUnreadable),
    readTombstone(redis, keys, node, stitch, onUnreadable),
  ]);
  return { record, removed, tombstone: left };
}

/** A stitch, or the full id that it has moved to. */
type FoundStitch = { readonly record: StitchRecord | null; readonly movedTo: string | null };

/**
 * Reads a stitch by its full id. `movedTo`: where it is now, if it has moved. If its node is away, a later decision of a
 * Master counts, not the record that the node has left. One round trip.
 */
export async function readStitch(redis: RedisClient, keys: Keys, id: string): Promise<FoundStitch> {
  const { record, removed, tombstone } = await readTraces(redis, keys, id);
  if (record === null) return { record: null, movedTo: removed?.movedTo ?? null };
  if (tombstone === null || !buries(tombstone, record)) return { record, movedTo: null };
  return { record: null, movedTo: tombstone.movedTo ?? tombstone.arrivingFrom };
}

/** The removed record of a stitch, by full id; null if there is none, or if it cannot be read, unless `onUnreadable` throws. */
export function readRemoved(
  redis: RedisClient,
  keys: Keys,
  id: string,
  onUnreadable: OnUnreadable = refuse,
): Promise<RemovedRecord | null> {
  return readOne(redis, keys.nodeRemoved(splitFullId(id).node), id, removedRecord, onUnreadable);
}

/**
 * Reads stitches by full id; null for a stitch that does not exist or cannot be read, unless `onUnreadable` throws. One
 * round trip.
 */
export function readStitches(
  redis: RedisClient,
  keys: Keys,
  fullIds: readonly string[],
  onUnreadable: OnUnreadable = refuse,
): Promise<(StitchRecord | null)[]> {
  return Promise.all(
    fullIds.map((id) => readOne(redis, keys.nodeStitches(splitFullId(id).node), id, stitchRecord, onUnreadable)),
  );
}

async function readOne<T>(
  redis: RedisClient,
  key: string,
  id: string,
  schema: z.ZodType<T>,
  onUnreadable: OnUnreadable,
): Promise<T | null> {
  const field = splitFullId(id).stitch;
  const text = await readKey({ id, key }, redis.hget(key, field), null, onUnreadable);
  return text === null ? null : readField(schema, text, { id, key, field }, onUnreadable);
}

/** Stitch ids of a node, sorted; an empty list if they cannot be read, unless `onUnreadable` throws. */
export async function listStitchesOfNode(
  redis: RedisClient,
  keys: Keys,
  node: string,
  onUnreadable: OnUnreadable = refuse,
): Promise<string[]> {
  const key = keys.nodeStitches(node);
  const ids = await readKey({ id: node, key }, redis.hkeys(key), [], onUnreadable);
  return stitchIdsIn(ids);
}

/** The stitch ids among the fields of a node's stitches, sorted. */
export const stitchIdsIn = (fields: readonly string[]): string[] =>
  fields.filter((field) => stitchId.safeParse(field).success).sort();

/**
 * Repairs the pointers of stitches. The pointers are in other slots than the node's records, so no publication number shows
 * what a failover has lost of them. One round trip. Safe to repeat.
 */
export async function assertPointers(
  redis: RedisClient,
  keys: Keys,
  node: string,
  stitches: readonly StitchChange[],
  receives: (group: string) => boolean,
): Promise<void> {
  await Promise.all(
    stitches.flatMap(({ kind, record }) =>
      kind === "set"
        ? addPointers(redis, keys, node, record)
        : dropPointers(redis, keys, node, record, receives(record.group)),
    ),
  );
}

/**
 * Drops the pointers of a stitch that a Master has removed or moved while its node is away, if the tombstone means the
 * stitch that is there now. Its record stays, because it belongs to the node. Safe to repeat.
 */
export async function dropForAbsent(
  redis: RedisClient,
  keys: Keys,
  id: string,
  tombstone: Tombstone,
  onUnreadable: OnUnreadable,
): Promise<void> {
  const [record] = await readStitches(redis, keys, [id], onUnreadable);
  if (record == null || !buries(tombstone, record)) return;
  await Promise.all([
    ...handOver(redis, keys, { group: record.group, movedTo: tombstone.movedTo, was: record }),
    // The node itself will publish whether it has other stitches of the group.
    ...dropPointers(redis, keys, splitFullId(id).node, record, true),
  ]);
}
