import type { RedisClient } from "../../src/redis/connection/client.ts";

/** How many connections a Redis has, including the one that asks. */
export async function redisConnections(redis: RedisClient): Promise<number> {
  return String(await redis.client("LIST"))
    .trim()
    .split("\n").length;
}
