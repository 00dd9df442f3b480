import type { RedisClient } from "../connection/client.ts";
import type { Keys } from "../keys.ts";
import { type OnUnreadable, readKey, refuse, writeIndex } from "../unreadable.ts";

/**
 * How long a spec is kept that nothing refers to: longer than a job waits and is kept by default, and longer than all
 * Masters, which do the housekeeping, may be away.
 */
const KEPT_MS = 8 * 86_400_000;

/** Puts a spec's text into the store. Only for Masters. Safe to repeat. */
export async function storeSpec(
  redis: RedisClient,
  keys: Keys,
  { specHash: hash, text }: { readonly specHash: string; readonly text: string },
): Promise<void> {
  await redis.set(keys.spec(hash), text, "PX", KEPT_MS);
}

/**
 * The texts of specs from the store; null if the store has none, or has a value of another type. One round trip. A node
 * that runs a spec checks its hash.
 */
export function readSpecTexts(
  redis: RedisClient,
  keys: Keys,
  hashes: readonly string[],
  onUnreadable: OnUnreadable,
): Promise<(string | null)[]> {
  return Promise.all(
    hashes.map((hash) => {
      const key = keys.spec(hash);
      return readKey({ id: `spec ${hash}`, key }, redis.get(key), null, onUnreadable);
    }),
  );
}

/** Those of the specs that the store does not have. One round trip. */
export async function missingSpecs(redis: RedisClient, keys: Keys, hashes: readonly string[]): Promise<string[]> {
  const there = await Promise.all(hashes.map((hash) => redis.exists(keys.spec(hash))));
  return hashes.filter((_, index) => there[index] === 0);
}

/** Restarts the time after which specs expire, because something refers to them. */
export async function keepSpecs(redis: RedisClient, keys: Keys, hashes: readonly string[]): Promise<void> {
  await Promise.all(hashes.map((hash) => redis.pexpire(keys.spec(hash), KEPT_MS)));
}

/** Offers the texts of specs that a node has and the store does not have. They replace its earlier offers. */
export async function offerSpecs(
  redis: RedisClient,
  keys: Keys,
  node: string,
  texts: ReadonlyMap<string, string>,
): Promise<void> {
  const key = keys.nodeSpecs(node);
  const before = await writeIndex(redis, key, "hash", () => redis.hkeys(key));
  await Promise.all([...texts].map(([hash, text]) => redis.hset(key, hash, text)));
  await dropOffers(
    redis,
    keys,
    node,
    before.filter((hash) => !texts.has(hash)),
  );
}

/** More than the longest spec that the API accepts. */
const MOST_CHARACTERS = 1024 * 1024;

/**
 * The texts of specs that a node offers, by hash; without those that it does not offer, or that are too long for a spec.
 * Anybody with the node's credential may have written them. Two round trips.
 */
export async function readOffers(
  redis: RedisClient,
  keys: Keys,
  node: string,
  hashes: readonly string[],
): Promise<Map<string, string>> {
  const key = keys.nodeSpecs(node);
  const at = { id: node, key };
  const lengths = await Promise.all(hashes.map((hash) => readKey(at, redis.hstrlen(key, hash), 0, refuse)));
  const offered = hashes.filter((_, index) => (lengths[index] ?? 0) > 0 && (lengths[index] ?? 0) <= MOST_CHARACTERS);
  const texts = await Promise.all(offered.map((hash) => redis.hget(key, hash)));
  return new Map(offered.flatMap((hash, index) => (texts[index] == null ? [] : [[hash, texts[index]] as const])));
}

/** Deletes offers. */
export async function dropOffers(
  redis: RedisClient,
  keys: Keys,
  node: string,
  hashes: readonly string[],
): Promise<void> {
  if (hashes.length === 0) return;
  const key = keys.nodeSpecs(node);
  await writeIndex(redis, key, "hash", () => redis.hdel(key, ...hashes));
}
