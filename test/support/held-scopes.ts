import type { RedisClient } from "../../src/redis/connection/client.ts";
import type { Keys } from "../../src/redis/keys.ts";

/** How many jobs hold scopes. */
export async function heldScopes(redis: RedisClient, keys: Keys): Promise<number> {
  // The field `_` keeps the key there while nothing is held.
  return (await redis.hkeys(keys.busy)).filter((field) => field !== "_").length;
}
