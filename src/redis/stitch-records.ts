import type * as z from "zod";
import { parseFullGroup } from "../domain/group.ts";
import { fullId, splitFullId } from "../domain/ids.ts";
import type { NodeStatus } from "../domain/node.ts";
import {
  type RemovedRecord,
  removedRecord,
  type StitchRecord,
  type StitchUsage,
  stitchRecord,
  stitchUsage,
} from "../domain/stitch.ts";
import { buries, type Tombstone } from "../domain/tombstone.ts";
import type { RedisClient } from "./client.ts";
import type { Keys } from "./keys.ts";
import { addRoutes, dropRoutes } from "./routes.ts";
import { readTombstone } from "./tombstones.ts";
import { type OnUnreadable, readField, refuse } from "./unreadable.ts";

/** A change of one stitch that its node publishes. `isNew`: its pointers are not known to be in Redis yet. */
export type StitchChange =
  | { readonly kind: "set"; readonly record: StitchRecord; readonly isNew: boolean }
  | { readonly kind: "removed"; readonly record: RemovedRecord };

/**
 * Publishes changes of a node's stitches: pointers before the record they point to, and after it when it goes, so that a
 * crash leaves at worst a stale pointer. Two round trips at most, whatever the number of changes. Safe to repeat.
 *
 * @param receives has the node a stitch of the group that takes messages, by now?
 */
export async function publishStitches(
  redis: RedisClient,
  keys: Keys,
  node: string,
  changes: readonly StitchChange[],
  status: NodeStatus,
  receives: (group: string) => boolean,
): Promise<void> {
  const pointers: Promise<unknown>[] = [];
  const set: Record<string, string> = {};
  const removed: Record<string, string> = {};
  for (const change of changes) {
    if (change.kind === "removed") {
      removed[change.record.id] = JSON.stringify(change.record);
      continue;
    }
    set[change.record.id] = JSON.stringify(change.record);
    if (change.isNew) pointers.push(...addPointers(redis, keys, node, change.record));
  }
  await Promise.all(pointers);
  const gone = Object.keys(removed);
  await Promise.all([
    // With its stitches, not with the next heartbeat: placement weighs what is reserved.
    redis.hset(keys.nodeMeta(node), "status", JSON.stringify(status)),
    ...(Object.keys(set).length > 0 ? [redis.hset(keys.nodeStitches(node), set)] : []),
    ...(gone.length > 0
      ? [redis.hset(keys.nodeRemoved(node), removed), redis.hdel(keys.nodeStitches(node), ...gone)]
      : []),
  ]);
  await Promise.all(
    changes.flatMap((change) =>
      change.kind === "removed"
        ? [
            ...handOver(redis, keys, change.record),
            ...dropPointers(redis, keys, node, change.record, receives(change.record.group)),
          ]
        : [],
    ),
  );
}

/** The pointers of a stitch that has moved name the new one: with the old one's route gone, the bare id means it, too. */
function handOver(
  redis: RedisClient,
  keys: Keys,
  { group, movedTo, was, takenBack }: Pick<RemovedRecord, "group" | "movedTo" | "was" | "takenBack">,
): Promise<unknown>[] {
  if (movedTo === null || takenBack === true) return [];
  const { node, stitch } = splitFullId(movedTo);
  const routes = was === null ? [] : addRoutes(redis, keys, node, { id: stitch, group, spec: was.spec });
  return [redis.sadd(keys.group(group), movedTo), ...routes];
}

/**
 * Drops the pointers of a stitch whose node is away and that a Master has removed or moved, where its word speaks of the one
 * that is there now. Its record stays the node's. Safe to repeat.
 */
export async function dropForAbsent(
  redis: RedisClient,
  keys: Keys,
  id: string,
  word: Tombstone,
  onUnreadable: OnUnreadable,
): Promise<void> {
  const [record] = await readStitches(redis, keys, [id], onUnreadable);
  if (record == null || !buries(word, record)) return;
  await Promise.all([
    ...handOver(redis, keys, { group: record.group, movedTo: word.movedTo, was: record }),
    // Whether the node has others of the group, it will say itself.
    ...dropPointers(redis, keys, splitFullId(id).node, record, true),
  ]);
}

/** In a route, between the group and the node that the stitch comes from. */
const FROM = "<";

function addPointers(redis: RedisClient, keys: Keys, node: string, record: StitchRecord): Promise<unknown>[] {
  const { id, group } = record;
  const parts = parseFullGroup(group);
  if (parts === null) throw new Error(`not a full group: ${group}`);
  // While it arrives, it can be found by its full id alone: the bare id and the group still mean the one it comes from.
  if (record.movedFrom !== null)
    return [redis.hset(keys.route(id), node, `${group}${FROM}${splitFullId(record.movedFrom).node}`)];
  return [
    redis.hset(keys.route(id), node, group),
    redis.sadd(keys.group(group), fullId(node, id)),
    redis.sadd(keys.application(parts.application), `${parts.component}.${parts.version}`),
    redis.sadd(keys.applications, parts.application),
    ...addRoutes(redis, keys, node, record),
  ];
}

function dropPointers(
  redis: RedisClient,
  keys: Keys,
  node: string,
  stitch: { id: string; group: string },
  receives: boolean,
): Promise<unknown>[] {
  return [
    redis.hdel(keys.route(stitch.id), node),
    redis.srem(keys.group(stitch.group), fullId(node, stitch.id)),
    ...dropRoutes(redis, keys, node, stitch, receives),
  ];
}

/** Forgets removed stitches. */
export async function forgetRemoved(
  redis: RedisClient,
  keys: Keys,
  node: string,
  ids: readonly string[],
): Promise<void> {
  if (ids.length > 0) await redis.hdel(keys.nodeRemoved(node), ...ids);
}

/**
 * All that Redis holds of a node's stitches, but for what cannot be read: what the node merges with its disk when it
 * registers.
 */
export async function readOwnStitches(
  redis: RedisClient,
  keys: Keys,
  node: string,
  onUnreadable: OnUnreadable,
): Promise<{ stitches: StitchRecord[]; removed: RemovedRecord[] }> {
  const readAll = async <T>(key: string, schema: z.ZodType<T>) =>
    Object.entries(await redis.hgetall(key))
      .map(([field, text]) => readField(schema, text, { id: fullId(node, field), key, field }, onUnreadable))
      .filter((record) => record !== null);
  const [stitches, removed] = await Promise.all([
    readAll(keys.nodeStitches(node), stitchRecord),
    readAll(keys.nodeRemoved(node), removedRecord),
  ]);
  return { stitches, removed };
}

/** All that is known of a full id (see `Traces`); what cannot be read is null where `onUnreadable` bears that. One round trip. */
export async function readTraces(redis: RedisClient, keys: Keys, id: string, onUnreadable: OnUnreadable = refuse) {
  const { node, stitch } = splitFullId(id);
  const [[record = null], removed, word] = await Promise.all([
    readStitches(redis, keys, [id], onUnreadable),
    readRemoved(redis, keys, id, onUnreadable),
    readTombstone(redis, keys, node, stitch),
  ]);
  return { record, removed, tombstone: word };
}

/** One stitch, or where it is now. */
export type FoundStitch = { readonly record: StitchRecord | null; readonly movedTo: string | null };

/**
 * A stitch by its full id. `movedTo`: where it is now, if it has moved. Where its node is away, what a Master has decided
 * since is the truth, not the record that the node has left. One round trip.
 */
export async function readStitch(redis: RedisClient, keys: Keys, id: string): Promise<FoundStitch> {
  const { record, removed, tombstone } = await readTraces(redis, keys, id);
  if (record === null) return { record: null, movedTo: removed?.movedTo ?? null };
  if (tombstone === null || !buries(tombstone, record)) return { record, movedTo: null };
  return { record: null, movedTo: tombstone.movedTo ?? tombstone.arrivingFrom };
}

/** What is left of a removed stitch, by full id; null where nothing is, or where `onUnreadable` bears that it cannot be read. */
export function readRemoved(
  redis: RedisClient,
  keys: Keys,
  id: string,
  onUnreadable: OnUnreadable = refuse,
): Promise<RemovedRecord | null> {
  return readOne(redis, keys.nodeRemoved(splitFullId(id).node), id, removedRecord, onUnreadable);
}

/**
 * Reads stitches by full id; null where there is none, and for one that cannot be read, where `onUnreadable` bears that. One
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
  const text = await redis.hget(key, field);
  return text === null ? null : readField(schema, text, { id, key, field }, onUnreadable);
}

/**
 * Publishes what a node's stitches use, all in one round trip, in place of what was published before. It expires by itself:
 * of a stitch that nobody measures, nothing is known.
 */
export async function publishUsage(
  redis: RedisClient,
  keys: Keys,
  node: string,
  usage: ReadonlyMap<string, StitchUsage>,
  keptMs: number,
): Promise<void> {
  const key = keys.nodeUsage(node);
  const fields = Object.fromEntries([...usage].map(([stitch, each]) => [stitch, JSON.stringify(each)]));
  await Promise.all([redis.del(key), ...(usage.size > 0 ? [redis.hset(key, fields), redis.pexpire(key, keptMs)] : [])]);
}

/** What stitches use, by full id; null where it is not known, or cannot be read. One round trip, a command for each node. */
export async function readUsage(
  redis: RedisClient,
  keys: Keys,
  fullIds: readonly string[],
  onUnreadable: OnUnreadable,
): Promise<(StitchUsage | null)[]> {
  const byNode = Map.groupBy(fullIds.map(splitFullId), ({ node }) => node);
  const found = new Map<string, StitchUsage>();
  await Promise.all(
    [...byNode].map(async ([node, stitches]) => {
      const key = keys.nodeUsage(node);
      const texts = await redis.hmget(key, ...stitches.map(({ stitch }) => stitch));
      for (const [index, text] of texts.entries()) {
        const field = stitches[index]?.stitch ?? "";
        const id = fullId(node, field);
        const usage = text === null ? null : readField(stitchUsage, text, { id, key, field }, onUnreadable);
        if (usage !== null) found.set(id, usage);
      }
    }),
  );
  return fullIds.map((id) => found.get(id) ?? null);
}

/**
 * The full ids that a bare id may mean: pointers checked against the records, stale ones passed over. They are left where
 * they are: a node writes the pointers of a stitch before its record, and would not write them again. While a stitch moves,
 * that is the old one.
 */
export async function locateStitch(redis: RedisClient, keys: Keys, stitch: string): Promise<string[]> {
  const routes = Object.entries(await redis.hgetall(keys.route(stitch)));
  const exists = await Promise.all(routes.map(([node]) => redis.hexists(keys.nodeStitches(node), stitch)));
  const there = routes.filter((_, index) => exists[index] === 1);
  const nodes = new Set(there.map(([node]) => node));
  return there
    .filter(([, route]) => !nodes.has(route.split(FROM)[1] ?? ""))
    .map(([node]) => fullId(node, stitch))
    .sort();
}

/** The full groups of stitches by their routes, null where there is none. Of pointers into groups, it tells those that are stale. */
export function groupsByRoute(redis: RedisClient, keys: Keys, fullIds: readonly string[]): Promise<(string | null)[]> {
  return Promise.all(
    fullIds.map(async (id) => {
      const { node, stitch } = splitFullId(id);
      return (await redis.hget(keys.route(stitch), node))?.split(FROM)[0] ?? null;
    }),
  );
}

/** The nodes that have a stitch with this bare id, by its routes: also one that arrives there. */
export function nodesWith(redis: RedisClient, keys: Keys, stitch: string): Promise<string[]> {
  return redis.hkeys(keys.route(stitch));
}

/** Stitch ids of a node, sorted. */
export async function listStitchesOfNode(redis: RedisClient, keys: Keys, node: string): Promise<string[]> {
  return (await redis.hkeys(keys.nodeStitches(node))).sort();
}

/** Deletes a forgotten node's stitches: records first, then their pointers. Safe to repeat. */
export async function forgetStitchesOf(
  redis: RedisClient,
  keys: Keys,
  node: string,
  onUnreadable: OnUnreadable,
): Promise<void> {
  const { stitches } = await readOwnStitches(redis, keys, node, onUnreadable);
  await Promise.all(stitches.flatMap(({ id, group }) => dropPointers(redis, keys, node, { id, group }, false)));
  await Promise.all([
    redis.del(keys.nodeStitches(node)),
    redis.del(keys.nodeRemoved(node)),
    redis.del(keys.nodeUsage(node)),
  ]);
}
