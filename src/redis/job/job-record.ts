import * as z from "zod";
import {
  type Claim,
  closedMark,
  type FinalStatus,
  type JobMarks,
  type JobRecord,
  type JobState,
  jobRecord,
  type Outcomes,
  type Task,
} from "../../domain/job/job.ts";
import { type StepOutcome, stepOutcome } from "../../domain/stitch/stitch.ts";
import type { RedisClient } from "../connection/client.ts";
import { isSlotMoving } from "../connection/connection.ts";
import { type Keys, MASTER_RUNNER } from "../keys.ts";
import { markJobDue } from "./due-jobs.ts";
import { listJob } from "./job-index.ts";
import { defineScript } from "../connection/script.ts";
import { type OnUnreadable, readField, readKey, readRequired, refuse } from "../unreadable.ts";

/** Outcomes beyond this are read where they are written: a hint goes to every process that listens. */
const MAX_HINT_BYTES = 8192;
/** Times a job is read key by key because it changed meanwhile. */
const MOST_READS = 20;

/**
 * Begins every script that reads what is written beside a job. While a Redis Cluster moves the slot, a script may run where
 * some of the keys are not, and would take them for empty: a verdict without the outcomes. Two keys at once, of which the
 * second never exists, are refused on both sides for as long as the slot is open ("non local key").
 */
const WHOLE = "redis.call('EXISTS', KEYS[1], KEYS[1] .. ':none')\n";

/** How much there is beside a job (see `JobState.written`). `raised`: a raised attempt makes other outcomes count. */
const WRITTEN = `${WHOLE}
local function written(runners)
  local sum = tonumber(redis.call('HGET', KEYS[1], 'raised') or 0)
  for runner in string.gmatch(runners, '[^\\n]+') do
    sum = sum + (tonumber(redis.pcall('HLEN', KEYS[1] .. ':out:' .. runner)) or 0)
  end
  return sum
end
`;

/** How long outcomes are kept beside which there is no record: longer than a slot is on its way to another Redis. */
const ALONE_KEPT_MS = 86_400_000;
/** How long a void draft is remembered where no record follows: longer than any process is held up and goes on. */
const VOID_KEPT_MS = 86_400_000;

/**
 * Writes a job's record, once. KEYS job. ARGV record, hash of the body, deadline, runners (one a line), how many times drafts
 * of it had been voided when this one was begun.
 * Returns 'created'; 'known' where there is a record; 'void' where the draft has been voided since.
 * Atomic: of two requests with one idempotency key, one alone may create; and a draft is either accepted or voided.
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
 * Voids every draft of a job that has been begun: none of them can be accepted any more. KEYS job. ARGV ms to remember it.
 * Returns 1, or 0 where there is a record.
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

/**
 * Reads a job with everything beside it at one instant, with that instant. KEYS job.
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
 * Atomic: the time must be that of the Redis that has the key, and of the read.
 */
const loadAlone = defineScript<[hash: string]>("load_alone", 1, "return {now, redis.call('HGETALL', KEYS[1])}");

/**
 * A runner takes up a task. KEYS the runner's outcomes. ARGV the job's key, task, attempt, incarnation.
 * Returns 'ok', or why not: 'unknown' (no such job), 'closed', 'attempt' (not the current one), 'cancelled', 'expired'.
 * Cancel and deadline end only what nobody has claimed in any attempt, and what cleans up after a job not at all; a runner
 * that is back claims again what it had. The highest incarnation that took an attempt up is kept: see `write_outcomes`.
 * Atomic: a task that is cancelled or expired must never be claimed after it was said so.
 * The job's key is not among the KEYS, though it is read: Redis wants leave to write what is declared, and a node's user
 * may not write job records (docs/security.md). It shares the slot.
 */
const claimTask = defineScript<[outcomes: string]>(
  "claim_task",
  1,
  `
local j = redis.call('HMGET', ARGV[1], 'deadlineAt', 'cancelledAt', 'closed', 'attempt:' .. ARGV[2], 'cleanup:' .. ARGV[2])
if not j[1] then return 'unknown' end
if j[3] then return 'closed' end
if (j[4] or '1') ~= ARGV[3] then return 'attempt' end
local id = ARGV[2] .. '.' .. ARGV[3]
only(KEYS[1], 'hash')
if redis.call('HEXISTS', KEYS[1], 'f:' .. ARGV[2]) == 0 then
  if j[2] and not j[5] then return 'cancelled' end
  if now >= tonumber(j[1]) and not j[5] then return 'expired' end
  redis.call('HSET', KEYS[1], 'f:' .. ARGV[2], now)
end
redis.call('HSETNX', KEYS[1], 'c:' .. id .. '.' .. ARGV[4], now)
local by = tonumber(redis.call('HGET', KEYS[1], 'by:' .. id) or 0) or 0
redis.call('HSET', KEYS[1], 'by:' .. id, math.max(by, tonumber(ARGV[4])))
return 'ok'
`,
);

/**
 * Writes outcomes; the first one of a step stays. KEYS the runner's outcomes.
 * ARGV the job's key, channel or '', runner, task, attempt, incarnation that claimed it, index, outcome, …
 * Returns 1; 0 and nothing is written where a higher incarnation has claimed this attempt, or somebody the next one: the
 * task is theirs, and the lease that would tell is in another slot.
 * Atomic: whoever has the task must not be overtaken by a write that was long on its way.
 * The channel is told when the task has ended, after the write it speaks of: with how much is written now and the outcomes
 * as they stand, so that whoever waits need not read them again; without them where they are too long for a hint.
 * What is written goes with the job's record, which a claim may not declare either (see `claim_task`). Where there is none,
 * because the job has expired or its slot is being moved, it is kept for `ALONE_KEPT_MS`, or until the next write finds one.
 */
const writeOutcomes = defineScript<[outcomes: string]>(
  "write_outcomes",
  1,
  `
only(KEYS[1], 'hash')
local by = redis.call('HMGET', KEYS[1], 'by:' .. ARGV[4] .. '.' .. ARGV[5], 'by:' .. ARGV[4] .. '.' .. (ARGV[5] + 1))
if (tonumber(by[1] or 0) or 0) > tonumber(ARGV[6]) or by[2] then return 0 end
local steps, bytes = {}, 0
for i = 7, #ARGV, 2 do
  local field, value = 's:' .. ARGV[4] .. '.' .. ARGV[5] .. '.' .. ARGV[i], ARGV[i + 1]
  if redis.call('HSETNX', KEYS[1], field, value) == 0 then value = redis.call('HGET', KEYS[1], field) end
  steps[#steps + 1] = field
  steps[#steps + 1] = value
  bytes = bytes + #value
end
local left = redis.pcall('PTTL', ARGV[1])
if left == -1 then redis.call('PERSIST', KEYS[1])
elseif type(left) == 'number' then redis.call('PEXPIRE', KEYS[1], left == -2 and ${ALONE_KEPT_MS} or left) end
if ARGV[2] ~= '' then
  local hint = {runner = ARGV[3], written = redis.call('HLEN', KEYS[1])}
  if #steps > 0 and bytes <= ${MAX_HINT_BYTES} then hint.steps = steps end
  redis.call('PUBLISH', ARGV[2], cjson.encode(hint))
end
return 1
`,
);

/**
 * Ends a job for good. KEYS job. ARGV how much was written beside it when that was decided, status, retention in ms; then
 * runner, field, value of what was not read but heard of in a hint: it must be there as it was told.
 * Returns {'closed' | 'was', mark}, or {'changed'} where more has been written meanwhile, {'unknown'} where it is gone.
 * Atomic: a verdict must not overtake a claim or an outcome, nor rest on a hint that says what nobody wrote.
 */
const close = defineScript<[job: string]>(
  "close_job",
  1,
  `${WRITTEN}
local j = redis.call('HMGET', KEYS[1], 'closed', 'runners')
if j[1] then return {'was', j[1]} end
if not j[2] then return {'unknown'} end
if written(j[2]) ~= tonumber(ARGV[1]) then return {'changed'} end
for i = 4, #ARGV, 3 do
  if redis.pcall('HGET', KEYS[1] .. ':out:' .. ARGV[i], ARGV[i + 1]) ~= ARGV[i + 2] then return {'changed'} end
end
local mark = cjson.encode({status = ARGV[2], atMs = now})
redis.call('HSET', KEYS[1], 'closed', mark)
redis.call('PEXPIRE', KEYS[1], ARGV[3])
for runner in string.gmatch(j[2], '[^\\n]+') do redis.call('PEXPIRE', KEYS[1] .. ':out:' .. runner, ARGV[3]) end
return {'closed', mark}
`,
);

/**
 * Saves what a job of many steps has become. KEYS job. ARGV the version it was made from, how much was written beside it
 * then, record, runners (one a line), how many tasks are given up, these, then the tasks that clean up.
 * Returns 'ok'; 'changed' where another Master has saved, or more has been written; 'closed', 'unknown'.
 * Atomic: two Masters may bring it forward at once, and a task that is given up must not be taken up meanwhile.
 */
const save = defineScript<[job: string]>(
  "save_job",
  1,
  `${WRITTEN}
local j = redis.call('HMGET', KEYS[1], 'runners', 'closed', 'version')
if not j[1] then return 'unknown' end
if j[2] then return 'closed' end
if tonumber(j[3] or 1) ~= tonumber(ARGV[1]) then return 'changed' end
if written(j[1]) ~= tonumber(ARGV[2]) then return 'changed' end
redis.call('HSET', KEYS[1], 'record', ARGV[3], 'runners', ARGV[4], 'version', ARGV[1] + 1)
local ends = 5 + ARGV[5]
for i = 6, ends do redis.call('HSET', KEYS[1], 'attempt:' .. ARGV[i], '-') end
for i = ends + 1, #ARGV do redis.call('HSET', KEYS[1], 'cleanup:' .. ARGV[i], '1') end
return 'ok'
`,
);

/**
 * Makes the next attempt of tasks the one that counts. KEYS job. ARGV how much was written beside it when that was decided,
 * then task, attempt that counts so far, ….
 * Returns 'ok'; 'changed' where more has been written, or a task has another attempt or is given up; 'closed', 'unknown'.
 * Atomic: an outcome that comes first must count, and two Masters must not raise it twice.
 */
const raise = defineScript<[job: string]>(
  "raise_attempt",
  1,
  `${WRITTEN}
local j = redis.call('HMGET', KEYS[1], 'runners', 'closed')
if not j[1] then return 'unknown' end
if j[2] then return 'closed' end
if written(j[1]) ~= tonumber(ARGV[1]) then return 'changed' end
for i = 2, #ARGV, 2 do
  if (redis.call('HGET', KEYS[1], 'attempt:' .. ARGV[i]) or '1') ~= ARGV[i + 1] then return 'changed' end
end
for i = 2, #ARGV, 2 do redis.call('HSET', KEYS[1], 'attempt:' .. ARGV[i], ARGV[i + 1] + 1) end
redis.call('HINCRBY', KEYS[1], 'raised', 1)
return 'ok'
`,
);

/** Notes the job that follows from this one, once. KEYS job. ARGV field, id. Returns the one that is noted; false where the job is gone. */
const noteFollowUp = defineScript<[job: string]>(
  "note_follow_up",
  1,
  `
if redis.call('HEXISTS', KEYS[1], 'record') == 0 then return false end
redis.call('HSETNX', KEYS[1], ARGV[1], ARGV[2])
return redis.call('HGET', KEYS[1], ARGV[1])
`,
);

/** Asks a job to end. KEYS job, channel of the job. Returns 'unknown', 'closed', or 'ok' (also where it was asked before). */
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
const createdReply = z.enum(["created", "known", "void"]);
const followUpReply = z.string().nullable();
const fields = z.array(z.string());
const loadedReply = z.tuple([z.number(), fields], fields).nullable();
const aloneReply = z.tuple([z.number(), fields]);
const writtenReply = z.literal([0, 1]);
const saveReply = z.enum(["ok", "changed", "closed", "unknown"]);
const claimReply = z.enum(["ok", "unknown", "closed", "attempt", "cancelled", "expired"]);
const closeReply = z.union([
  z.tuple([z.enum(["closed", "was"]), z.string()]),
  z.tuple([z.enum(["changed", "unknown"])]),
]);
const cancelReply = z.enum(["ok", "unknown", "closed"]);

const runnerOf = (task: Task): string => (task.runs === "master" ? MASTER_RUNNER : task.node);

const runnersOf = (record: JobRecord): string => [...new Set(record.tasks.map(runnerOf))].join("\n");

type CreateReply = z.output<typeof createdReply>;

/**
 * Writes the record once; from here on the command is accepted.
 * @param voids as `timesVoided` told before the draft took anything; 0 for an id that nobody else can have.
 * @returns "known" where there is a record with this id; "void" where another Master has given the draft up.
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

/** How many times the drafts of a job were voided, for the draft that is begun now. */
export async function timesVoided(redis: RedisClient, keys: Keys, id: string): Promise<number> {
  return Number((await redis.hget(keys.job(id), "voids")) ?? 0);
}

/**
 * Sees to it that no draft of this job that has been begun is accepted any more; one that is begun after this may be.
 * @returns false where the job has a record.
 */
export async function voidDrafts(redis: RedisClient, keys: Keys, id: string): Promise<boolean> {
  return (await voidAll.call(redis, [keys.job(id)], [VOID_KEPT_MS])) === 1;
}

/**
 * A job and everything written beside it, at one instant; null where there is no such job (any more). An outcome that cannot
 * be read counts as none, unless `onUnreadable` throws: the job ends by its deadline.
 * @throws UnreadableRecord where the record is not what it should be.
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
  let written = Number(job.get("raised") ?? 0);
  for (const out of outs) {
    written += out.length / 2;
    readOutcomes({ id, key: keys.jobOutcomes(id, "*"), onUnreadable }, out, claims, steps);
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
  return { nowMs, record, bodyHash, marks, attempts, outcomes: { claims, steps }, written };
}

/**
 * As the script reads it, key by key: for a slot that a Redis Cluster is moving, where each key is on one of two. What is
 * written beside a job is only added to, so it need not be of one instant as long as the job itself stays the same; what
 * counts as late is told by the time of the first read.
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

function pairsOf(hash: readonly string[]): [field: string, value: string][] {
  const pairs: [string, string][] = [];
  for (let i = 0; i + 1 < hash.length; i += 2) pairs.push([hash[i] ?? "", hash[i + 1] ?? ""]);
  return pairs;
}

/** Takes in a runner's hash, given as field, value, …: claims and outcomes. */
function readOutcomes(
  { onUnreadable, ...at }: { readonly id: string; readonly key: string; readonly onUnreadable: OnUnreadable },
  out: readonly string[],
  claims: Claim[],
  steps: Map<string, StepOutcome>,
): void {
  for (const [field, value] of pairsOf(out)) {
    if (field.startsWith("s:")) {
      const outcome = readField(stepOutcome, value, { ...at, field }, onUnreadable);
      if (outcome !== null) steps.set(field.slice(2), outcome);
    } else if (field.startsWith("c:")) {
      const [task = "", attempt, incarnation] = field.slice(2).split(".");
      claims.push({ task, attempt: Number(attempt), incarnation: Number(incarnation), atMs: Number(value) });
    }
  }
}

const outcomesHint = z.object({ runner: z.string(), written: z.int(), steps: z.array(z.string()).default([]) });
/** What a hint tells: outcomes that one runner has written, and how much it had written by then. `told`: see `closeJob`. */
type OutcomesHint = {
  readonly runner: string;
  readonly written: number;
  readonly steps: Outcomes["steps"];
  readonly told: readonly string[];
};

/** Reads the payload of a job's channel; null where it only says to look, or says nothing that can be read. */
export function readHint(payload: string): OutcomesHint | null {
  if (payload === "") return null;
  try {
    const { runner, written, steps: told } = outcomesHint.parse(JSON.parse(payload));
    const steps = new Map<string, StepOutcome>();
    readOutcomes({ id: "", key: "", onUnreadable: refuse }, told, [], steps);
    return { runner, written, steps, told: pairsOf(told).flatMap((pair) => [runner, ...pair]) };
  } catch {
    // The command was accepted; a hint must not turn its answer into an error.
    return null;
  }
}

export type ClaimReply = z.output<typeof claimReply>;

/** Takes up a task. Safe to repeat. `runner`: the node's id, or `MASTER_RUNNER`. */
export async function claim(
  redis: RedisClient,
  keys: Keys,
  job: string,
  runner: string,
  task: Pick<Task, "id" | "attempt">,
  incarnation: number,
): Promise<ClaimReply> {
  const reply = await claimTask.call(
    redis,
    [keys.jobOutcomes(job, runner)],
    [keys.job(job), task.id, task.attempt, incarnation],
  );
  // While a Redis Cluster moves the slot, the script may have run where the record is not yet: only the record's own key
  // tells whether it is gone.
  if (reply === "unknown" && (await redis.hexists(keys.job(job), "record")) === 1)
    throw new Error(`TRYAGAIN the record of ${job} is on its way to another Redis; the task is claimed later`);
  return claimReply.parse(reply);
}

/**
 * Writes outcomes of a task's steps, in one round trip. `ended`: these are the last of the task. Safe to repeat: the first
 * stays. `incarnation`: the one that claimed the task.
 * @returns whether the task is still that incarnation's; else nothing is written.
 */
export async function recordOutcomes(
  redis: RedisClient,
  keys: Keys,
  job: string,
  runner: string,
  task: Pick<Task, "id" | "attempt">,
  incarnation: number,
  outcomes: ReadonlyMap<number, StepOutcome>,
  ended: boolean,
): Promise<boolean> {
  const writing = writeOutcomes.call(
    redis,
    [keys.jobOutcomes(job, runner)],
    [
      keys.job(job),
      ended ? keys.jobChannel(job) : "",
      runner,
      task.id,
      task.attempt,
      incarnation,
      ...[...outcomes].flatMap(([index, outcome]) => [index, JSON.stringify(outcome)]),
    ],
  );
  // After the outcomes, in the same round trip.
  if (ended) markJobDue(redis, keys, job).catch(untilTheSweep);
  return writtenReply.parse(await writing) === 1;
}

/** A mark that fails is one hint less: the outcomes are there, and the sweep finds the job. */
function untilTheSweep(): void {}

/**
 * Saves what a job of many steps has become: `next`, made from `state`.
 * @param givenUp the tasks that nobody may take up any more.
 */
export async function saveJob(
  redis: RedisClient,
  keys: Keys,
  state: JobState,
  next: JobRecord,
  givenUp: readonly string[],
): Promise<z.output<typeof saveReply>> {
  const cleanup = next.tasks.filter((task) => task.cleanup === true).map(({ id }) => id);
  const reply = await save.call(
    redis,
    [keys.job(next.id)],
    [
      state.record.orchestration?.version ?? 0,
      state.written,
      JSON.stringify(next),
      runnersOf(next),
      givenUp.length,
      ...givenUp,
      ...cleanup,
    ],
  );
  return saveReply.parse(reply);
}

/** Makes the next attempt of the tasks the one that counts, unless anything has changed since `state` was read. */
export async function raiseAttempts(
  redis: RedisClient,
  keys: Keys,
  { record, written }: JobState,
  tasks: readonly Pick<Task, "id" | "attempt">[],
): Promise<z.output<typeof saveReply>> {
  const from = tasks.flatMap(({ id, attempt }) => [id, attempt]);
  return saveReply.parse(await raise.call(redis, [keys.job(record.id)], [written, ...from]));
}

/** Notes that `by` repeats or takes back a job, unless another does already. @returns the one that does; null where the job is gone. */
export async function followUp(
  redis: RedisClient,
  keys: Keys,
  id: string,
  as: "retriedBy" | "rolledBackBy",
  by: string,
): Promise<string | null> {
  return followUpReply.parse(await noteFollowUp.call(redis, [keys.job(id)], [as, by]));
}

type CloseReply =
  | { readonly kind: "closed"; readonly mark: NonNullable<JobMarks["closed"]> }
  | { readonly kind: "was"; readonly mark: NonNullable<JobMarks["closed"]> }
  | { readonly kind: "changed" }
  | { readonly kind: "unknown" };

/**
 * Ends a job for good, unless more was written beside it than the verdict was made from.
 * @param told what the verdict takes from hints, as runner, field, value, …: anybody may publish a hint, so it is compared.
 */
export async function closeJob(
  redis: RedisClient,
  keys: Keys,
  id: string,
  written: number,
  status: FinalStatus,
  retentionMs: number,
  told: readonly string[] = [],
): Promise<CloseReply> {
  const [kind, mark] = closeReply.parse(
    await close.call(redis, [keys.job(id)], [written, status, retentionMs, ...told]),
  );
  if (kind === "closed" || kind === "was") return { kind, mark: closedMark.parse(JSON.parse(mark)) };
  return { kind };
}

export async function cancelJob(redis: RedisClient, keys: Keys, id: string): Promise<"ok" | "unknown" | "closed"> {
  return cancelReply.parse(await cancel.call(redis, [keys.job(id)], []));
}

/**
 * Lets a job go whose record cannot be read, with what is written beside it. KEYS job. ARGV retention in ms. The runners' keys
 * share its slot.
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

/** A job that nobody can read goes after this time. Safe to repeat. */
export async function letJobGo(redis: RedisClient, keys: Keys, id: string, retentionMs: number): Promise<void> {
  await letGo.call(redis, [keys.job(id)], [retentionMs]);
}
