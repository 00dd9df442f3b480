import type { RedisClient } from "../../redis/connection/client.ts";
import { isCluster } from "../../redis/connection/connection.ts";
import type { Keys } from "../../redis/keys.ts";
import { redisTimeMs } from "../../redis/node/node-record.ts";

/**
 * Reads a list, and the time as of which it holds, by the clock that ids of events begin with. The time is read first: what changes
 * between the two is an event after that time, and may be in the list already. The other way round, it would be in neither.
 * On a single Redis, both are sent together and keep their order. In a Cluster, the time is awaited first.
 *
 * @param read sends its first commands on the shared connection, not by `callApart`, which would overtake the time.
 */
export async function readAsOf<T>(
  redis: RedisClient,
  keys: Keys,
  read: () => Promise<T>,
): Promise<[asOfMs: number, value: T]> {
  if (isCluster(redis)) return [await redisTimeMs(redis, keys.events), await read()];
  // The command itself: a script that Redis has forgotten is sent a second time, and then comes after the list.
  const time = redis.time();
  const [[seconds, microseconds], value] = await Promise.all([time, asPromised(read)]);
  return [1000 * Number(seconds) + Math.floor(Number(microseconds) / 1000), value];
}

/** Rejects where `read` throws at once: the time is under way, and its own error must not be left unhandled. */
async function asPromised<T>(read: () => Promise<T>): Promise<T> {
  return read();
}
