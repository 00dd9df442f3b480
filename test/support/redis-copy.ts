import type { Redis } from "ioredis";

/** Keys with their values and what is left of their lifetimes, as a backup has them. */
type RedisCopy = ReadonlyMap<string, { readonly dump: Buffer; readonly ttlMs: number }>;

/** Copies the keys that match a pattern, as a backup or a replica that lags behind has them. On a single Redis. */
export async function copyKeys(redis: Redis, pattern: string): Promise<RedisCopy> {
  const copy = new Map<string, { dump: Buffer; ttlMs: number }>();
  for (const key of await redis.keys(pattern)) {
    const [dump, ttlMs] = await Promise.all([redis.dumpBuffer(key), redis.pttl(key)]);
    if (dump !== null) copy.set(key, { dump, ttlMs: Math.max(0, ttlMs) });
  }
  return copy;
}

/** Puts back a copy in one transaction: what matches the pattern and is not in it is gone then. */
export async function restoreKeys(redis: Redis, pattern: string, copy: RedisCopy): Promise<void> {
  const now = await redis.keys(pattern);
  const all = redis.multi();
  if (now.length > 0) all.del(...now);
  for (const [key, { dump, ttlMs }] of copy) all.restore(key, ttlMs, dump);
  await all.exec();
}
