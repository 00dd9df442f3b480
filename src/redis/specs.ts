import { specHash } from "../domain/spec.ts";
import type { RedisClient } from "./client.ts";
import type { Keys } from "./keys.ts";
import { readKey, refuse, writeIndex } from "./unreadable.ts";

/**
 * How long a spec is kept that nothing refers to: longer than a job waits and is kept by default, and than Masters that do
 * the housekeeping may all be away.
 */
const KEPT_MS = 8 * 86_400_000;

/** Puts a spec's text into the store. Only Masters may. Safe to repeat. */
export async function storeSpec(
  redis: RedisClient,
  keys: Keys,
  { specHash: hash, text }: { readonly specHash: string; readonly text: string },
): Promise<void> {
  await redis.set(keys.spec(hash), text, "PX", KEPT_MS);
}

/** The texts of specs, as the store has them; null where it has none. One round trip. Whoever runs one checks its hash. */
export function readSpecTexts(redis: RedisClient, keys: Keys, hashes: readonly string[]): Promise<(string | null)[]> {
  return Promise.all(
    hashes.map((hash) => {
      const key = keys.spec(hash);
      return readKey({ id: `spec ${hash}`, key }, redis.get(key), null, refuse);
    }),
  );
}

/** Those of the specs that the store has. One round trip. */
export async function specsStored(redis: RedisClient, keys: Keys, hashes: readonly string[]): Promise<Set<string>> {
  const there = await Promise.all(hashes.map((hash) => redis.exists(keys.spec(hash))));
  return new Set(hashes.filter((_, index) => there[index] === 1));
}

/** Specs that something refers to count their time anew. */
export async function keepSpecs(redis: RedisClient, keys: Keys, hashes: readonly string[]): Promise<void> {
  await Promise.all(hashes.map((hash) => redis.pexpire(keys.spec(hash), KEPT_MS)));
}

/** Offers texts of specs that a node has and the store has not, in place of those it offered before. */
export async function offerSpecs(
  redis: RedisClient,
  keys: Keys,
  node: string,
  texts: ReadonlyMap<string, string>,
): Promise<void> {
  const key = keys.nodeSpecs(node);
  await Promise.all([redis.del(key), ...[...texts].map(([hash, text]) => redis.hset(key, hash, text))]);
}

/** What a node offers, by hash: anybody with its credential may have written that. */
export async function readOffers(redis: RedisClient, keys: Keys, node: string): Promise<Map<string, string>> {
  const key = keys.nodeSpecs(node);
  const offers = await readKey({ id: node, key }, redis.hgetall(key), {}, refuse);
  return new Map(Object.entries(offers).filter(([hash]) => specHash.safeParse(hash).success));
}

/** The text that a node offers of one spec; null where it offers none. */
export function readOffer(redis: RedisClient, keys: Keys, node: string, hash: string): Promise<string | null> {
  const key = keys.nodeSpecs(node);
  return readKey({ id: node, key }, redis.hget(key, hash), null, refuse);
}

/** Takes offers back that are in the store by now. */
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
