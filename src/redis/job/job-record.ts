import * as z from "zod";
import { jobElection } from "../../domain/election.ts";
import {
  type Claim,
  closedMark,
  type JobMarks,
  type JobRecord,
  type JobState,
  jobRecord,
  type Task,
} from "../../domain/job/job.ts";
import type { StepOutcome } from "../../domain/stitch/stitch.ts";
import type { RedisClient } from "../connection/client.ts";
import { isSlotMoving } from "../connection/connection.ts";
import { type Keys, MASTER_RUNNER } from "../keys.ts";
import { pairsOf, readOutcomes } from "./outcomes.ts";
import { defineScript } from "../connection/script.ts";
import { type OnUnreadable, readKey, readRequired, refuse } from "../unreadable.ts";

/** Most times that a job is read key by key because it changed meanwhile. */
const MOST_READS = 20;

/**
 * Begins every script that reads what is written beside a job. While a Redis Cluster moves the slot, a script may run on a
 * server that does not have all the keys, and would take the missing ones for empty: it would decide without the outcomes. A
 * command on two keys, where the second key never exists, is refused by both servers while the slot is open ("non local key").
 */
export const WHOLE = "redis.call('EXISTS', KEYS[1], KEYS[1] .. ':none')\n";

/**
 * Reads a job and everything written beside it at one instant, and the time of that instant. KEYS job.
 * Returns false, or {now, {the job's hash as field, value, …}, {outcomes of one runner as field, value, …}, …}.
 * The runners' keys are built from the record: they share the job's slot.
 */
const load = defineScript<[job: string]>(
  "load_job",
  1,
  `${WHOLE}
local runners = redis.call('HGET', KEYS[1], 'runners')
if not runners then return false end
local reply = {now, redis.call('HGETALL', KEYS[1])}
for runner in string.gmatch(runners, '[^\\n]+') do
  local out = redis.pcall('HGETALL', KEYS[1] .. ':out:' .. runner)
  reply[#reply + 1] = out.err and {} or out
end
return reply
`,
);

/**
 * Reads one hash. KEYS hash. Returns {now, {field, value, …}}.
 * Atomic: the time must be that of the read, on the Redis that has the key.
 */
const loadAlone = defineScript<[hash: string]>("load_alone", 1, "return {now, redis.call('HGETALL', KEYS[1])}");

/**
 * Notes, once, the job that repeats or rolls back this one. KEYS job. ARGV field, id. Returns the id that is noted; false
 * if the job is gone.
 */
const noteFollowUp = defineScript<[job: string]>(
  "note_follow_up",
  1,
  `
if redis.call('HEXISTS', KEYS[1], 'record') == 0 then return false end
redis.call('HSETNX', KEYS[1], ARGV[1], ARGV[2])
return redis.call('HGET', KEYS[1], ARGV[1])
`,
);

/** Asks a job to end. KEYS job. Returns 'unknown', 'closed', or 'ok' (also if it was asked before). */
const cancel = defineScript<[job: string]>(
  "cancel_job",
  1,
  `
local j = redis.call('HMGET', KEYS[1], 'record', 'closed')
if not j[1] then return 'unknown' end
if j[2] then return 'closed' end
redis.call('HSETNX', KEYS[1], 'cancelledAt', now)
redis.call('PUBLISH', KEYS[1] .. ':ended', '')
return 'ok'
`,
);

// Made once: a schema costs more to make than to use.
const followUpReply = z.string().nullable();
const fields = z.array(z.string());
const loadedReply = z.tuple([z.number(), fields], fields).nullable();
const aloneReply = z.tuple([z.number(), fields]);
const cancelReply = z.enum(["ok", "unknown", "closed"]);

const runnerOf = (task: Task): string => (task.runs === "master" ? MASTER_RUNNER : task.node);

/** The runners of a job's tasks, one per line. */
export const runnersOf = (record: JobRecord): string => [...new Set(record.tasks.map(runnerOf))].join("\n");

/**
 * Reads a job and everything written beside it, at one instant; null if there is no such job (any more). An outcome that
 * cannot be read counts as none, unless `onUnreadable` throws: the job ends at its deadline.
 * @throws UnreadableRecord if the record is not what it should be.
 */
export async function loadJob(
  redis: RedisClient,
  keys: Keys,
  id: string,
  onUnreadable: OnUnreadable = refuse,
): Promise<JobState | null> {
  const whole = load.call(redis, [keys.job(id)], []).then(
    (all) => loadedReply.parse(all),
    (error: unknown) => {
      if (!isSlotMoving(error)) throw error;
      return loadByKeys(redis, keys, id);
    },
  );
  const reply = await readKey({ id, key: keys.job(id) }, whole, null, refuse);
  if (reply === null) return null;
  const [nowMs, hash, ...outs] = reply;
  const job = new Map(pairsOf(hash));
  const read = <T>(schema: z.ZodType<T>, field: string): T =>
    readRequired(schema, job.get(field) ?? "", { id, key: keys.job(id), field });
  const claims: Claim[] = [];
  const steps = new Map<string, StepOutcome>();
  const stale = new Set<string>();
  let written = Number(job.get("raised") ?? 0);
  for (const out of outs) {
    written += out.length / 2;
    readOutcomes({ id, key: keys.jobOutcomes(id, "*"), onUnreadable }, out, { claims, steps, stale });
  }
  const attempts = new Map<string, number | null>();
  for (const [field, value] of job)
    if (field.startsWith("attempt:"))
      attempts.set(field.slice("attempt:".length), value === "-" ? null : Number(value));
  const cancelledAt = job.get("cancelledAt");
  const [retriedBy, rolledBackBy] = [job.get("retriedBy"), job.get("rolledBackBy")];
  const marks: JobMarks = {
    cancelledAtMs: cancelledAt === undefined ? null : Number(cancelledAt),
    closed: job.has("closed") ? read(closedMark, "closed") : null,
    ...(retriedBy === undefined ? {} : { retriedBy }),
    ...(rolledBackBy === undefined ? {} : { rolledBackBy }),
  };
  const record = read(jobRecord, "record");
  const bodyHash = job.get("bodyHash") ?? "";
  const decided = job.get("election");
  const election =
    decided === undefined
      ? null
      : readRequired(jobElection, JSON.stringify(decided), { id, key: keys.job(id), field: "election" });
  return { nowMs, record, bodyHash, marks, election, attempts, outcomes: { claims, steps, stale }, written };
}

/**
 * Reads the same as the script `load_job`, key by key: while a Redis Cluster moves a slot, each key is on one of two
 * servers. Outcomes and claims are only added, so they need not be read at the same instant, as long as the job itself
 * stays the same. The time of the first read decides what counts as late.
 */
async function loadByKeys(redis: RedisClient, keys: Keys, id: string): Promise<z.output<typeof loadedReply>> {
  const read = async (key: string) => aloneReply.parse(await loadAlone.callApart(redis, [key], []));
  for (let round = 0; round < MOST_READS; round++) {
    const [nowMs, job] = await read(keys.job(id));
    const runners = new Map(pairsOf(job)).get("runners");
    if (runners === undefined) return null;
    const outs = await Promise.all(runners.split("\n").map((runner) => read(keys.jobOutcomes(id, runner))));
    const [, again] = await read(keys.job(id));
    if (job.length === again.length && job.every((text, index) => text === again[index]))
      return [nowMs, job, ...outs.map(([, out]) => out)];
  }
  throw new Error(`TRYAGAIN the job ${id} changed ${MOST_READS} times while it was read`);
}

/**
 * Notes that the job `by` repeats or rolls back a job, unless another job does already. @returns the job that does; null if
 * the job is gone.
 */
export async function followUp(
  redis: RedisClient,
  keys: Keys,
  id: string,
  as: "retriedBy" | "rolledBackBy",
  by: string,
): Promise<string | null> {
  return followUpReply.parse(await noteFollowUp.call(redis, [keys.job(id)], [as, by]));
}

export async function cancelJob(redis: RedisClient, keys: Keys, id: string): Promise<"ok" | "unknown" | "closed"> {
  return cancelReply.parse(await cancel.call(redis, [keys.job(id)], []));
}

/**
 * Lets a job expire whose record cannot be read, with what is written beside it. KEYS job. ARGV retention in ms. The
 * runners' keys share the job's slot.
 */
const letGo = defineScript<[job: string]>(
  "let_job_go",
  1,
  `
local runners = redis.pcall('HGET', KEYS[1], 'runners')
for runner in string.gmatch(type(runners) == 'string' and runners or '', '[^\\n]+') do
  redis.call('PEXPIRE', KEYS[1] .. ':out:' .. runner, ARGV[1])
end
return redis.call('PEXPIRE', KEYS[1], ARGV[1])
`,
);

/** Lets a job that nobody can read expire after `retentionMs`. Safe to repeat. */
export async function letJobGo(redis: RedisClient, keys: Keys, id: string, retentionMs: number): Promise<void> {
  await letGo.call(redis, [keys.job(id)], [retentionMs]);
}
