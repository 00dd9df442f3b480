import type { Redis } from "ioredis";

/** Keys with their values and the rest of their lifetimes, as a backup has them. */
type RedisCopy = ReadonlyMap<string, { readonly dump: Buffer; readonly ttlMs: number }>;

/** Copies the keys that match a pattern, as a backup or a replica that lags behind has them. For a single Redis only. */
export async function copyKeys(redis: Redis, pattern: string): Promise<RedisCopy> {
  const copy = new Map<string, { dump: Buffer; ttlMs: number }>();
  for (const key of await redis.keys(pattern)) {
    const [dump, ttlMs] = await Promise.all([redis.dumpBuffer(key), redis.pttl(key)]);
    if (dump !== null) copy.set(key, { dump, ttlMs: Math.max(0, ttlMs) });
  }
  return copy;
}

/** Restores a copy in one transaction. Keys that match the pattern and are not in the copy are deleted. */
export async function restoreKeys(redis: Redis, pattern: string, copy: RedisCopy): Promise<void> {
  const now = await redis.keys(pattern);
  const all = redis.multi();
  if (now.length > 0) all.del(...now);
  for (const [key, { dump, ttlMs }] of copy) all.restore(key, ttlMs, dump);
  await all.exec();
}
