import * as z from "zod";
import type { RedisClient } from "../connection/client.ts";
import type { Keys } from "../keys.ts";
import { defineScript } from "../connection/script.ts";

/** Most hints that are kept while no Master takes them. The sweep finds a job without a hint, too. */
const MOST_DUE = 10_000;
const KEPT_MS = 60_000;

/**
 * Marks a job as due for a look. KEYS due jobs. ARGV job. The first mark of a job counts; beyond `MOST_DUE`, the newest
 * marks are dropped.
 * A script, because the mark has a bound and a lifetime, and each would cost one more command for every task.
 */
const mark = defineScript<[due: string]>(
  "mark_job_due",
  1,
  `
only(KEYS[1], 'zset')
redis.call('ZADD', KEYS[1], 'LT', now, ARGV[1])
redis.call('ZREMRANGEBYRANK', KEYS[1], ${MOST_DUE}, -1)
return redis.call('PEXPIRE', KEYS[1], ${KEPT_MS})
`,
);

/** Says that a part of a job has ended, so that a Master looks at the job. A hint: it may get lost. Safe to repeat. */
export async function markJobDue(redis: RedisClient, keys: Keys, job: string): Promise<void> {
  await mark.call(redis, [keys.dueJobs], [job]);
}

const popped = z.tuple([z.string(), z.string(), z.string()]).nullable();

/**
 * Takes the job that has been due for the longest time, so that no other Master takes it.
 * @param blocking in the role `blocking`; @param blockMs how long to wait for a job.
 * @returns null if no job has become due.
 */
export async function waitForDueJob(blocking: RedisClient, keys: Keys, blockMs: number): Promise<string | null> {
  return popped.parse(await blocking.bzpopmin(keys.dueJobs, blockMs / 1000))?.[1] ?? null;
}

/** Takes at most `limit` jobs that are due; the job that has been due for the longest time comes first. */
export async function takeDueJobs(redis: RedisClient, keys: Keys, limit: number): Promise<string[]> {
  return (await redis.zpopmin(keys.dueJobs, limit)).filter((_, index) => index % 2 === 0);
}
