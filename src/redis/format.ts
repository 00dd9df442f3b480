import type { RedisClient } from "./connection/client.ts";
import { RedisRefused } from "./connection/connection.ts";
import type { Keys } from "./keys.ts";
import { readIndex, readKey } from "./unreadable.ts";

/**
 * The format of the stored data, in Redis and in a node's journal. It rises when a version of CrossStitch writes data that
 * the previous version would misread, or the other way round. Versions with the same number may run side by side.
 */
export const FORMAT = 4;

const NEXT = 'See "Upgrading" in docs/operations.md.';

/** Why the data stored in `place` is refused, in one line. */
export const otherFormat = (place: string, found: string): string =>
  `${place} is stored in format ${found}; this version of CrossStitch reads and writes format ${FORMAT} only. ${NEXT}`;

/**
 * Writes the format of the cluster, if Redis has none. Every process calls this at its start, and every registration of a
 * node does, so that a Redis that came back empty has the format before any other data. Safe to repeat: an existing format
 * is not overwritten. A Redis that takes no writes refuses the call even then, and so an API detects this (`/readyz`).
 */
export async function writeFormat(redis: RedisClient, keys: Keys): Promise<void> {
  await redis.set(keys.format, String(FORMAT), "NX");
}

/**
 * Refuses a cluster that is stored in another format: each version would misread what the other writes. One round trip; two
 * if the cluster is new.
 * @throws RedisRefused
 */
export async function refuseOtherFormat(redis: RedisClient, keys: Keys): Promise<void> {
  const [found, nodes] = await Promise.all([
    readKey({ id: "the cluster", key: keys.format }, redis.get(keys.format), "unknown", () => undefined),
    readIndex(redis, keys.nodes, "zset", redis.zcard(keys.nodes), 0),
  ]);
  // Format 1 had no such key. A cluster without a node holds nothing that could be misread.
  const format = found ?? (nodes > 0 ? "1" : null);
  if (format === null) return writeFormat(redis, keys);
  if (format !== String(FORMAT))
    throw new RedisRefused(otherFormat(`the cluster "${keys.cluster}" in this Redis`, format.slice(0, 20)));
}
