import type { RedisClient } from "./connection/client.ts";
import { RedisRefused } from "./connection/connection.ts";
import type { Keys } from "./keys.ts";
import { readIndex, readKey } from "./unreadable.ts";

/**
 * The format of what is stored, in Redis and in a node's journal. Raised whenever a version of CrossStitch writes what the
 * one before it would misread, or the other way round; versions with the same number may run side by side.
 */
export const FORMAT = 3;

const NEXT = 'See "Upgrading" in docs/operations.md.';

/** Why what is stored under `place` is refused, in one line. */
export const otherFormat = (place: string, found: string): string =>
  `${place} is stored in format ${found}; this version of CrossStitch reads and writes format ${FORMAT} only. ${NEXT}`;

/**
 * Writes down in which format the cluster is stored, where Redis does not tell. Called by every process at its start and by
 * whoever registers a node, so that a Redis that came back empty has it before it has anything else. Safe to repeat:
 * where it is there, nothing is written. A Redis that takes no writes refuses it all the same, and so an API finds out
 * (`/readyz`).
 */
export async function writeFormat(redis: RedisClient, keys: Keys): Promise<void> {
  await redis.set(keys.format, String(FORMAT), "NX");
}

/**
 * Refuses a cluster that is stored in another format: what one version writes, another would misread. One round trip, two
 * where the cluster is new.
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
