import * as z from "zod";
import type { JobRecord } from "../../domain/job/job.ts";
import type { RedisClient } from "../connection/client.ts";
import { defineScript } from "../connection/script.ts";
import type { Keys } from "../keys.ts";
import { listJob } from "./job-index.ts";
import { runnersOf } from "./job-record.ts";

/** How long a void draft is remembered if no record follows: longer than any process is held up and then continues. */
const VOID_KEPT_MS = 86_400_000;

/**
 * Writes a job's record, once. KEYS job. ARGV record, hash of the body, deadline, runners (one per line), how many times
 * drafts of the job had been voided when this draft began.
 * Returns 'created'; 'known' if there is a record; 'void' if the draft has been voided since.
 * Atomic: of two requests with the same idempotency key, only one may create the job; and a draft is either accepted or voided.
 */
const create = defineScript<[job: string]>(
  "create_job",
  1,
  `
local j = redis.call('HMGET', KEYS[1], 'record', 'voids')
if j[1] then return 'known' end
if tonumber(j[2] or 0) ~= tonumber(ARGV[5]) then return 'void' end
redis.call('HSET', KEYS[1], 'record', ARGV[1], 'bodyHash', ARGV[2], 'deadlineAt', ARGV[3], 'runners', ARGV[4])
if j[2] then redis.call('PERSIST', KEYS[1]) end
return 'created'
`,
);

/**
 * Voids every draft of a job that has begun so far: none of them can be accepted any more. KEYS job. ARGV ms to remember this.
 * Returns 1, or 0 if there is a record.
 * Atomic: as `create_job`.
 */
const voidAll = defineScript<[job: string]>(
  "void_drafts",
  1,
  `
if redis.call('HEXISTS', KEYS[1], 'record') == 1 then return 0 end
redis.call('HINCRBY', KEYS[1], 'voids', 1)
redis.call('PEXPIRE', KEYS[1], ARGV[1])
return 1
`,
);

const createdReply = z.enum(["created", "known", "void"]);

type CreateReply = z.output<typeof createdReply>;

/**
 * Writes the record once; from here on the command is accepted.
 * @param voids what `timesVoided` returned before the draft took anything; 0 for an id that nobody else can have.
 * @returns "known" if there is a record with this id; "void" if another Master has given the draft up.
 */
export async function createJob(
  redis: RedisClient,
  keys: Keys,
  record: JobRecord,
  bodyHash: string,
  voids = 0,
): Promise<CreateReply> {
  const runners = runnersOf(record);
  const [reply] = await Promise.all([
    create.call(redis, [keys.job(record.id)], [JSON.stringify(record), bodyHash, record.deadlineAtMs, runners, voids]),
    listJob(redis, keys, record),
  ]);
  return createdReply.parse(reply);
}

/** How many times the drafts of a job have been voided so far. A draft reads this when it begins. */
export async function timesVoided(redis: RedisClient, keys: Keys, id: string): Promise<number> {
  return Number((await redis.hget(keys.job(id), "voids")) ?? 0);
}

/**
 * Makes sure that no draft of this job that has begun is accepted any more. A draft that begins after this may be accepted.
 * @returns false if the job has a record.
 */
export async function voidDrafts(redis: RedisClient, keys: Keys, id: string): Promise<boolean> {
  return (await voidAll.call(redis, [keys.job(id)], [VOID_KEPT_MS])) === 1;
}
