import * as z from "zod";
import type { JobRecord } from "../../domain/job/job.ts";
import type { RedisClient } from "../connection/client.ts";
import type { Keys } from "../keys.ts";
import { redisTimeMs } from "../node/node-record.ts";
import { defineScript } from "../connection/script.ts";
import { readIndex, readKey, writeIndex } from "../unreadable.ts";

/** Newest jobs of the list of jobs that are looked for in the index of open jobs. */
const MOST_RECENT = 1000;
/** Jobs of the list of jobs that are looked for in one round trip. */
const PRUNED_AT_ONCE = 500;
/** Jobs that one script makes due: other clients of Redis wait meanwhile. */
const DUE_AT_ONCE = 1000;

/**
 * Adds the pointer to a job that is about to be created. KEYS open jobs. ARGV job, in how many ms to look at it.
 * Returns the pointer's score if there was no pointer yet, else ''. An existing pointer gets another score, so that the request
 * that made it sees that it is not alone any more; not a later look, or a client that repeats its request would put it off for ever. The score ends in half a millisecond; no score that a sweep writes does.
 * Atomic: of two requests with the same idempotency key, each must know whether the other was first.
 */
const point = defineScript<[open: string]>(
  "point_at_job",
  1,
  `
only(KEYS[1], 'zset')
local was = redis.call('ZSCORE', KEYS[1], ARGV[1])
local at = was and math.floor(was) + 1.5 or now + math.floor(ARGV[2]) + 0.5
redis.call('ZADD', KEYS[1], at, ARGV[1])
return was and '' or redis.call('ZSCORE', KEYS[1], ARGV[1])
`,
);

/**
 * Removes a pointer, unless another request has relied on it since. KEYS open jobs. ARGV job, the score that `point` returned.
 * Returns 1 if the pointer was removed.
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
 * Brings the next look at an open job forward. KEYS open jobs. ARGV job, in how many ms at the latest.
 * A script, because the sweep compares with the clock of the Redis that has the index, and no process has that clock.
 */
const lookIn = defineScript<[open: string]>(
  "look_at_job_in",
  1,
  "only(KEYS[1], 'zset')\nreturn redis.call('ZADD', KEYS[1], 'XX', 'LT', now + math.floor(ARGV[2]), ARGV[1])",
);

/**
 * Takes the jobs that are due for a look and postpones their next look, so that Masters that sweep at the same time share them.
 * KEYS open jobs. ARGV how many, ms to postpone. Returns ids.
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

/**
 * Makes open jobs due that are not. KEYS open jobs. ARGV how many. Returns how many were made due.
 */
const makeDue = defineScript<[open: string]>(
  "make_jobs_due",
  1,
  `
only(KEYS[1], 'zset')
local later = redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. now, '+inf', 'LIMIT', 0, ARGV[1])
for _, id in ipairs(later) do redis.call('ZADD', KEYS[1], now, id) end
return #later
`,
);

const pointReply = z.string();
const idsReply = z.array(z.string());

/**
 * Adds a job to the index, before its record is written (see `createJob`): a crash in between leaves a pointer without a
 * record, never a record that nobody looks at.
 * @returns the score for `takeBackOpenJob`; null if the pointer existed before.
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
 * Drops the pointer of a request that was refused, unless another request with the same id relies on it: an earlier or a
 * later one that may have created the job, or may be about to.
 * @param own what `indexOpenJob` or `openJobPointer` returned.
 * @returns true if the pointer was dropped: then nobody else is about to create the job.
 */
export async function takeBackOpenJob(
  redis: RedisClient,
  keys: Keys,
  id: string,
  own: string | null,
): Promise<boolean> {
  return own !== null && (await unpoint.call(redis, [keys.openJobs], [id, own])) === 1;
}

/** Sets in how long a Master looks at an open job again. An earlier look stays: it may have another reason. */
export async function lookAgainIn(redis: RedisClient, keys: Keys, id: string, inMs: number): Promise<void> {
  await lookIn.call(redis, [keys.openJobs], [id, inMs]);
}

/** The pointer to a job as it is now, for `takeBackOpenJob`; null if there is none. */
export async function openJobPointer(redis: RedisClient, keys: Keys, id: string): Promise<string | null> {
  return readIndex(redis, keys.openJobs, "zset", redis.zscore(keys.openJobs, id), null);
}

export async function dropOpenJob(redis: RedisClient, keys: Keys, id: string): Promise<void> {
  await writeIndex(redis, keys.openJobs, "zset", () => redis.zrem(keys.openJobs, id));
}

export function countOpenJobs(redis: RedisClient, keys: Keys): Promise<number> {
  return readIndex(redis, keys.openJobs, "zset", redis.zcard(keys.openJobs), 0);
}

/** Those of the given jobs that are in the index of open jobs. One round trip. */
export async function openJobsOf(redis: RedisClient, keys: Keys, ids: readonly string[]): Promise<string[]> {
  if (ids.length === 0) return [];
  const scores = await readIndex(redis, keys.openJobs, "zset", redis.zmscore(keys.openJobs, ...ids), []);
  return ids.filter((_, index) => scores[index] != null);
}

/** Adds a job to the list of jobs. Safe to repeat: the job keeps its place. */
export async function listJob(
  redis: RedisClient,
  keys: Keys,
  record: Pick<JobRecord, "id" | "createdAtMs">,
): Promise<void> {
  await writeIndex(redis, keys.recentJobs, "zset", () =>
    redis.zadd(keys.recentJobs, "NX", record.createdAtMs, record.id),
  );
}

/** Removes a job from the list of jobs. Safe to repeat. */
export async function unlistJob(redis: RedisClient, keys: Keys, id: string): Promise<void> {
  await writeIndex(redis, keys.recentJobs, "zset", () => redis.zrem(keys.recentJobs, id));
}

/** How long ago a job was accepted, by the list of jobs; infinite if the job is not on the list. */
export async function jobAgeMs(redis: RedisClient, keys: Keys, id: string): Promise<number> {
  const [score, nowMs] = await Promise.all([
    readIndex(redis, keys.recentJobs, "zset", redis.zscore(keys.recentJobs, id), null),
    redisTimeMs(redis, keys.recentJobs),
  ]);
  return score === null ? Number.POSITIVE_INFINITY : nowMs - Number(score);
}

/** Makes every open job due for a look now. Safe to repeat. */
export async function makeAllDue(redis: RedisClient, keys: Keys): Promise<void> {
  while (z.number().parse(await makeDue.call(redis, [keys.openJobs], [DUE_AT_ONCE])) === DUE_AT_ONCE);
}

/** Takes up to `limit` jobs that are due, and postpones their next look by `putOffMs`. */
export async function takeOpenJobs(redis: RedisClient, keys: Keys, limit: number, putOffMs: number): Promise<string[]> {
  return idsReply.parse(await takeDue.call(redis, [keys.openJobs], [limit, putOffMs]));
}

/** Job ids, newest first, after `cursor` (the score and id of the last job seen). One round trip. */
export async function listJobIds(
  redis: RedisClient,
  keys: Keys,
  cursor: { createdAtMs: number; id: string } | null,
  limit: number,
): Promise<{ id: string; createdAtMs: number }[]> {
  const recent = keys.recentJobs;
  const at = cursor === null ? "+inf" : String(cursor.createdAtMs);
  const before = cursor === null ? at : `(${at}`;
  const [ties, older] = await Promise.all([
    // Jobs of the same millisecond share a score.
    cursor === null ? [] : readIndex(redis, recent, "zset", redis.zrange(recent, at, at, "BYSCORE", "REV"), []),
    readIndex(
      redis,
      recent,
      "zset",
      redis.zrange(recent, before, "-inf", "BYSCORE", "REV", "LIMIT", 0, limit, "WITHSCORES"),
      [],
    ),
  ]);
  const rows = ties
    .filter((id) => cursor !== null && id < cursor.id)
    .map((id) => ({ id, createdAtMs: cursor?.createdAtMs ?? 0 }));
  for (let i = 0; i + 1 < older.length; i += 2) rows.push({ id: older[i] ?? "", createdAtMs: Number(older[i + 1]) });
  return rows.slice(0, limit);
}

/**
 * Adds those of the newest jobs that are not closed to the index of open jobs, if the index has lost them: in a failover of
 * the Redis that has it, or because it held other data.
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
 * Removes jobs whose record is gone from the list of jobs.
 * @param keptMs how long a record exists at least: newer jobs are not checked.
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
