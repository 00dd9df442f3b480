import * as z from "zod";
import { type Election, jobElectionText } from "../../domain/election.ts";
import type { JobRecord } from "../../domain/job/job.ts";
import type { RedisClient } from "../connection/client.ts";
import { defineScript } from "../connection/script.ts";
import type { Keys } from "../keys.ts";
import { listJob } from "./job-index.ts";
import { runnersOf } from "./job-record.ts";
import { digestFields } from "./task-digest.ts";

/** How long a void draft is remembered if no record follows: longer than any process is held up and then continues. */
const VOID_KEPT_MS = 86_400_000;

/**
 * Writes a job's record, once. KEYS job. ARGV record, hash of the body, deadline, runners (one per line), how many times
 * drafts of the job had been voided when this draft began, the request that asked for it (see asks.ts) or '', then fields to set, as
 * field, value, ….
 * Returns 'created'; 'known' if there is a record; 'void' if the draft has been voided since; 'withdrawn' if the request was
 * withdrawn, or its time is up.
 * Atomic: of two requests with the same idempotency key, only one may create the job; a draft is either accepted or voided; and a
 * request is either carried out or withdrawn.
 */
const create = defineScript<[job: string]>(
  "create_job",
  1,
  `
local j = redis.call('HMGET', KEYS[1], 'record', 'voids', 'ask:' .. ARGV[6])
if j[1] then return 'known' end
if tonumber(j[2] or 0) ~= tonumber(ARGV[5]) then return 'void' end
if ARGV[6] ~= '' then
  if now > (tonumber(j[3] or 0) or 0) then return 'withdrawn' end
  redis.call('HDEL', KEYS[1], 'ask:' .. ARGV[6])
  redis.call('HSET', KEYS[1], 'asked', ARGV[6])
end
redis.call('HSET', KEYS[1], 'record', ARGV[1], 'bodyHash', ARGV[2], 'deadlineAt', ARGV[3], 'runners', ARGV[4])
for i = 7, #ARGV, 2 do redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]) end
-- Voided drafts and requests that were not carried out let the key expire.
redis.call('PERSIST', KEYS[1])
if ARGV[6] ~= '' then redis.call('PUBLISH', KEYS[1] .. ':ended', '') end
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

const createdReply = z.enum(["created", "known", "void", "withdrawn"]);

/** The election under which a job is accepted, and the request that asks for it (see asks.ts). */
export type Led = { readonly election: Election; readonly ask: string };

type CreateReply = z.output<typeof createdReply>;

/**
 * Writes the record once; from here on the command is accepted.
 * @param voids what `askForJob` returned before the draft took anything; 0 for an id that nobody else can have.
 * @param led in the mode `leader`, what the job is decided by; else null.
 * @returns "known" if there is a record with this id; "void" if another Master has given the draft up; "withdrawn" if the request
 *   was withdrawn.
 */
export async function createJob(
  redis: RedisClient,
  keys: Keys,
  record: JobRecord,
  bodyHash: string,
  voids = 0,
  led: Led | null = null,
): Promise<CreateReply> {
  const fields =
    led === null ? [] : ["election", jobElectionText(led.election), ...(await digestFields(record.tasks, true))];
  const args = [
    JSON.stringify(record),
    bodyHash,
    record.deadlineAtMs,
    runnersOf(record),
    voids,
    led?.ask ?? "",
    ...fields,
  ];
  const [reply] = await Promise.all([create.call(redis, [keys.job(record.id)], args), listJob(redis, keys, record)]);
  return createdReply.parse(reply);
}

/** What a draft must know when it begins: whether there is the job already, and how often drafts of it have been voided so far. */
export async function askForJob(
  redis: RedisClient,
  keys: Keys,
  id: string,
): Promise<{ readonly isKnown: boolean; readonly voids: number }> {
  const [known, voids] = await Promise.all([redis.hexists(keys.job(id), "record"), redis.hget(keys.job(id), "voids")]);
  return { isKnown: known === 1, voids: Number(voids ?? 0) };
}

/**
 * Makes sure that no draft of this job that has begun is accepted any more. A draft that begins after this may be accepted.
 * @returns false if the job has a record.
 */
export async function voidDrafts(redis: RedisClient, keys: Keys, id: string): Promise<boolean> {
  return (await voidAll.call(redis, [keys.job(id)], [VOID_KEPT_MS])) === 1;
}
