import * as z from "zod";
import type { JobRecord } from "../../domain/job/job.ts";
import type { RedisClient } from "../connection/client.ts";
import type { Keys } from "../keys.ts";
import { redisTimeMs } from "../node/node-record.ts";
import { defineScript } from "../connection/script.ts";
import { readIndex, readKey, writeIndex } from "../unreadable.ts";

/** Of the list of jobs, those that are looked for in the index of open ones. */
const MOST_RECENT = 1000;
/** Jobs of the list that are looked for in one round trip. */
const PRUNED_AT_ONCE = 500;

/**
 * Points at a job that is to be made. KEYS open jobs. ARGV job, in how many ms to look at it.
 * Returns the pointer's score where nobody pointed at it yet, else ''. A pointer that is there gets another score: whoever
 * made it sees that it is not alone any more. Its half millisecond is in no score that a sweep writes.
 * Atomic: of two requests with one idempotency key, each must know whether the other was first.
 */
const point = defineScript<[open: string]>(
  "point_at_job",
  1,
  `
only(KEYS[1], 'zset')
local was = redis.call('ZSCORE', KEYS[1], ARGV[1])
local at = now + math.floor(ARGV[2]) + 0.5
if was then at = math.max(at, math.floor(was) + 1.5) end
redis.call('ZADD', KEYS[1], at, ARGV[1])
return was and '' or redis.call('ZSCORE', KEYS[1], ARGV[1])
`,
);

/**
 * Takes back a pointer that nobody else has relied on since. KEYS open jobs. ARGV job, the score that `point` gave.
 * Returns 1 where it did.
 */
const unpoint = defineScript<[open: string]>(
  "unpoint_at_job",
  1,
  `
if redis.pcall('ZSCORE', KEYS[1], ARGV[1]) ~= ARGV[2] then return 0 end
return redis.call('ZREM', KEYS[1], ARGV[1])
`,
);

/**
 * Brings a look at an open job forward. KEYS open jobs. ARGV job, in how many ms at the latest.
 * A script, because the sweep compares with the clock of the Redis that has the index, and no process has that one.
 */
const lookIn = defineScript<[open: string]>(
  "look_at_job_in",
  1,
  "only(KEYS[1], 'zset')\nreturn redis.call('ZADD', KEYS[1], 'XX', 'LT', now + math.floor(ARGV[2]), ARGV[1])",
);

/**
 * Takes the jobs that are due for a look, and puts them off, so that Masters which sweep at once share them.
 * KEYS open jobs. ARGV how many, ms to put off. Returns ids.
 */
const takeDue = defineScript<[open: string]>(
  "take_due_jobs",
  1,
  `
only(KEYS[1], 'zset')
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, ARGV[1])
for _, id in ipairs(due) do redis.call('ZADD', KEYS[1], now + ARGV[2], id) end
return due
`,
);

const pointReply = z.string();
const idsReply = z.array(z.string());

/**
 * Index first, then the record (see `createJob`): a crash between leaves a pointer without a record, never a record nobody
 * looks at.
 * @returns for `takeBackOpenJob`; null where the pointer was there.
 */
export async function indexOpenJob(
  redis: RedisClient,
  keys: Keys,
  id: string,
  lookInMs: number,
): Promise<string | null> {
  const score = pointReply.parse(await point.call(redis, [keys.openJobs], [id, lookInMs]));
  return score === "" ? null : score;
}

/**
 * Drops the pointer of a request that was refused, unless another with the same id counts on it: one that came before, or
 * since, and may have made the job, or be about to.
 * @param own as `indexOpenJob` or `openJobPointer` gave it.
 * @returns whether it did: then nobody else is about to make the job.
 */
export async function takeBackOpenJob(
  redis: RedisClient,
  keys: Keys,
  id: string,
  own: string | null,
): Promise<boolean> {
  return own !== null && (await unpoint.call(redis, [keys.openJobs], [id, own])) === 1;
}

/** In how long a Master shall look at an open job again: never later than was said before, which may be due to something else. */
export async function lookAgainIn(redis: RedisClient, keys: Keys, id: string, inMs: number): Promise<void> {
  await lookIn.call(redis, [keys.openJobs], [id, inMs]);
}

/** The pointer at a job as it is now, for `takeBackOpenJob`; null where there is none. */
export async function openJobPointer(redis: RedisClient, keys: Keys, id: string): Promise<string | null> {
  return readIndex(redis, keys.openJobs, "zset", redis.zscore(keys.openJobs, id), null);
}

export async function dropOpenJob(redis: RedisClient, keys: Keys, id: string): Promise<void> {
  await writeIndex(redis, keys.openJobs, "zset", () => redis.zrem(keys.openJobs, id));
}

export function countOpenJobs(redis: RedisClient, keys: Keys): Promise<number> {
  return readIndex(redis, keys.openJobs, "zset", redis.zcard(keys.openJobs), 0);
}

/** Those of the jobs that are in the index of open ones. One round trip. */
export async function openJobsOf(redis: RedisClient, keys: Keys, ids: readonly string[]): Promise<string[]> {
  if (ids.length === 0) return [];
  const scores = await readIndex(redis, keys.openJobs, "zset", redis.zmscore(keys.openJobs, ...ids), []);
  return ids.filter((_, index) => scores[index] != null);
}

/** Puts a job on the list of jobs. Safe to repeat: it stays where it is. */
export async function listJob(
  redis: RedisClient,
  keys: Keys,
  record: Pick<JobRecord, "id" | "createdAtMs">,
): Promise<void> {
  await writeIndex(redis, keys.recentJobs, "zset", () =>
    redis.zadd(keys.recentJobs, "NX", record.createdAtMs, record.id),
  );
}

/** Takes a job off the list of jobs. Safe to repeat. */
export async function unlistJob(redis: RedisClient, keys: Keys, id: string): Promise<void> {
  await writeIndex(redis, keys.recentJobs, "zset", () => redis.zrem(keys.recentJobs, id));
}

/** How long ago a job was accepted, as the list of jobs tells; without end where it is not on it. */
export async function jobAgeMs(redis: RedisClient, keys: Keys, id: string): Promise<number> {
  const [score, nowMs] = await Promise.all([
    readIndex(redis, keys.recentJobs, "zset", redis.zscore(keys.recentJobs, id), null),
    redisTimeMs(redis, keys.recentJobs),
  ]);
  return score === null ? Number.POSITIVE_INFINITY : nowMs - Number(score);
}

/** Takes up to `limit` jobs that are due, and puts them off by `putOffMs`. */
export async function takeOpenJobs(redis: RedisClient, keys: Keys, limit: number, putOffMs: number): Promise<string[]> {
  return idsReply.parse(await takeDue.call(redis, [keys.openJobs], [limit, putOffMs]));
}

/** Job ids, newest first, from after `cursor` (the score and id of the last one seen). */
export async function listJobIds(
  redis: RedisClient,
  keys: Keys,
  cursor: { createdAtMs: number; id: string } | null,
  limit: number,
): Promise<{ id: string; createdAtMs: number }[]> {
  // Jobs of one millisecond share a score: those at the cursor's are read again and passed over, so the page asks for more.
  const at = cursor === null ? "+inf" : String(cursor.createdAtMs);
  const recent = keys.recentJobs;
  const ties = cursor === null ? 0 : await readIndex(redis, recent, "zset", redis.zcount(recent, at, at), 0);
  const read = redis.zrange(recent, at, "-inf", "BYSCORE", "REV", "LIMIT", 0, limit + ties, "WITHSCORES");
  const flat = await readIndex(redis, recent, "zset", read, []);
  const rows: { id: string; createdAtMs: number }[] = [];
  for (let i = 0; i + 1 < flat.length; i += 2) {
    const row = { id: flat[i] ?? "", createdAtMs: Number(flat[i + 1]) };
    if (cursor !== null && row.createdAtMs === cursor.createdAtMs && row.id >= cursor.id) continue;
    rows.push(row);
  }
  return rows.slice(0, limit);
}

/**
 * Puts those of the newest jobs that are not closed into the index of open ones, where it has lost them: a failover of the
 * Redis that has it, or something else in its place.
 */
export async function indexLostJobs(redis: RedisClient, keys: Keys): Promise<void> {
  const newest = redis.zrange(keys.recentJobs, 0, String(MOST_RECENT - 1), "REV");
  const ids = await readIndex(redis, keys.recentJobs, "zset", newest, []);
  const open = new Set(await openJobsOf(redis, keys, ids));
  const lost = ids.filter((id) => !open.has(id));
  const marks = await Promise.all(
    lost.map((id) => {
      const key = keys.job(id);
      return readKey({ id, key }, redis.hmget(key, "bodyHash", "closed"), [null, null], () => undefined);
    }),
  );
  const isOpen = lost.filter((_, index) => marks[index]?.[0] != null && marks[index]?.[1] == null);
  await Promise.all(isOpen.map((id) => indexOpenJob(redis, keys, id, 0)));
}

/**
 * Drops jobs from the list whose record is gone.
 * @param keptMs how long a record is there at least: newer ones are not looked at.
 */
export async function pruneRecentJobs(redis: RedisClient, keys: Keys, keptMs: number): Promise<void> {
  const before = (await redisTimeMs(redis, keys.recentJobs)) - keptMs;
  for (let kept = 0; ; ) {
    const old = redis.zrange(keys.recentJobs, "-inf", String(before), "BYSCORE", "LIMIT", kept, PRUNED_AT_ONCE);
    const ids = await readIndex(redis, keys.recentJobs, "zset", old, []);
    const there = await Promise.all(
      ids.map((id) => {
        const key = keys.job(id);
        return readKey({ id, key }, redis.hexists(key, "record"), 1, () => undefined);
      }),
    );
    const gone = ids.filter((_, index) => there[index] === 0);
    if (gone.length > 0) await redis.zrem(keys.recentJobs, ...gone);
    if (ids.length < PRUNED_AT_ONCE) return;
    kept += ids.length - gone.length;
  }
}
