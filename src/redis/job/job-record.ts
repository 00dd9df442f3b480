import * as z from "zod";
import { type Election, type JobElection, jobElection, jobElectionText } from "../../domain/election.ts";
import {
  type Claim,
  closedMark,
  type FinalStatus,
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
import { digestFields } from "./task-digest.ts";
import { type OnUnreadable, readKey, readRequired, refuse } from "../unreadable.ts";

/** Most times that a job is read key by key because it changed meanwhile. */
const MOST_READS = 20;

/**
 * Begins every script that reads what is written beside a job. While a Redis Cluster moves the slot, a script may run on a
 * server that does not have all the keys, and would take the missing ones for empty: it would decide without the outcomes. A
 * command on two keys, where the second key never exists, is refused by both servers while the slot is open ("non local key").
 */
const WHOLE = "redis.call('EXISTS', KEYS[1], KEYS[1] .. ':none')\n";

/**
 * Counts what is written beside a job (see `JobState.written`). `raised` counts, too: a raised attempt makes other outcomes
 * count.
 */
const WRITTEN = `${WHOLE}
local function written(runners)
  local sum = tonumber(redis.call('HGET', KEYS[1], 'raised') or 0)
  for runner in string.gmatch(runners, '[^\\n]+') do
    sum = sum + (tonumber(redis.pcall('HLEN', KEYS[1] .. ':out:' .. runner)) or 0)
  end
  return sum
end
`;

/**
 * Lua: may the caller save a job? See `maySave`. `held`: the job's election as `jobElectionText`, or false; `own`: the id of the
 * caller's, or ''.
 */
const MAY_SAVE = `
local function may_save(held, own)
  if not held then return own == '' end
  return string.match(held, '^%d+ %d+ (%S+)$') == (own == '' and '-' or own)
end
`;

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
 * Closes a job for good. KEYS job. ARGV how much was written beside it at the decision, status, retention in ms; then
 * runner, field, value of each outcome that came with a hint and was not read: Redis must hold the same value.
 * Returns {'closed', mark}; {'was', mark} if it was closed before; {'changed'} if more has been written meanwhile, or a
 * value differs; {'unknown'} if the job is gone.
 * Atomic: the decision must not come before a claim or an outcome that it did not see, nor rest on a hint about something
 * that nobody wrote.
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
 * Saves the next version of a job of many steps. KEYS job. ARGV the version that it was made from, how much was written beside
 * the job then, record, runners (one per line), the id of the election or '', how many tasks are given up, these tasks, then
 * fields to set, as field, value, ….
 * Returns 'ok'; 'changed' if another Master has saved, or more has been written, or the job was taken over; 'closed'; 'unknown'.
 * Atomic: two Masters may advance the job at once, and a task that is given up must not be claimed meanwhile.
 */
const save = defineScript<[job: string]>(
  "save_job",
  1,
  `${WRITTEN}${MAY_SAVE}
local j = redis.call('HMGET', KEYS[1], 'runners', 'closed', 'version', 'election')
if not j[1] then return 'unknown' end
if j[2] then return 'closed' end
if tonumber(j[3] or 1) ~= tonumber(ARGV[1]) or not may_save(j[4], ARGV[5]) then return 'changed' end
if written(j[1]) ~= tonumber(ARGV[2]) then return 'changed' end
redis.call('HSET', KEYS[1], 'record', ARGV[3], 'runners', ARGV[4], 'version', ARGV[1] + 1)
local ends = 6 + ARGV[6]
for i = 7, ends do redis.call('HSET', KEYS[1], 'attempt:' .. ARGV[i], '-') end
for i = ends + 1, #ARGV, 2 do redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]) end
return 'ok'
`,
);

/**
 * Makes the next attempt of tasks the one that counts. KEYS job. ARGV how much was written beside the job at the decision, the id of
 * the election or '', then task, attempt that counts so far, ….
 * Returns 'ok'; 'changed' if more has been written, or a task has another attempt or is given up, or the job was taken over;
 * 'closed'; 'unknown'.
 * Atomic: an outcome that comes first must count, and two Masters must not raise the same attempt twice.
 */
const raise = defineScript<[job: string]>(
  "raise_attempt",
  1,
  `${WRITTEN}${MAY_SAVE}
local j = redis.call('HMGET', KEYS[1], 'runners', 'closed', 'election')
if not j[1] then return 'unknown' end
if j[2] then return 'closed' end
if written(j[1]) ~= tonumber(ARGV[1]) or not may_save(j[3], ARGV[2]) then return 'changed' end
for i = 3, #ARGV, 2 do
  if (redis.call('HGET', KEYS[1], 'attempt:' .. ARGV[i]) or '1') ~= ARGV[i + 1] then return 'changed' end
end
for i = 3, #ARGV, 2 do redis.call('HSET', KEYS[1], 'attempt:' .. ARGV[i], ARGV[i + 1] + 1) end
redis.call('HINCRBY', KEYS[1], 'raised', 1)
return 'ok'
`,
);

/**
 * Takes a job over: makes an election the one under which it is decided, and the next attempt of its unfinished tasks the one that
 * counts. KEYS job. ARGV how much was written beside the job at the decision; epoch, n and id of the election ('-' in modes without
 * elections); how many tasks, then task, attempt that counts so far, …; then fields to set, as field, value, ….
 * Returns 'ok', also if it was taken over before; 'older' if the job was decided under an election of a higher order, or of the same;
 * else as `raise_attempt`.
 * Atomic: a task that was sent under the former election is not applied after this, nor does its outcome count for the next attempt.
 */
const takeOver = defineScript<[job: string]>(
  "take_over_job",
  1,
  `${WRITTEN}
local j = redis.call('HMGET', KEYS[1], 'runners', 'closed', 'election')
if not j[1] then return 'unknown' end
if j[2] then return 'closed' end
if j[3] then
  local epoch, n, id = string.match(j[3], '^(%d+) (%d+) (%S+)$')
  if not epoch then return 'changed' end
  if id == ARGV[4] then return 'ok' end
  epoch, n = tonumber(epoch), tonumber(n)
  if epoch > tonumber(ARGV[2]) or (epoch == tonumber(ARGV[2]) and n >= tonumber(ARGV[3])) then return 'older' end
end
if written(j[1]) ~= tonumber(ARGV[1]) then return 'changed' end
local ends = 5 + 2 * ARGV[5]
for i = 6, ends, 2 do
  if (redis.call('HGET', KEYS[1], 'attempt:' .. ARGV[i]) or '1') ~= ARGV[i + 1] then return 'changed' end
end
for i = 6, ends, 2 do redis.call('HSET', KEYS[1], 'attempt:' .. ARGV[i], ARGV[i + 1] + 1) end
for i = ends + 1, #ARGV, 2 do redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]) end
redis.call('HSET', KEYS[1], 'election', ARGV[2] .. ' ' .. ARGV[3] .. ' ' .. ARGV[4])
redis.call('HINCRBY', KEYS[1], 'raised', 1)
return 'ok'
`,
);

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
const saveReply = z.enum(["ok", "changed", "closed", "unknown"]);
const takeOverReply = z.enum([...saveReply.options, "older"]);
const closeReply = z.union([
  z.tuple([z.enum(["closed", "was"]), z.string()]),
  z.tuple([z.enum(["changed", "unknown"])]),
]);
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
 * Saves the next version of a job of many steps: `next`, made from `state`.
 * @param givenUp the tasks that no runner may claim any more.
 * @param election the one under which it is decided; null in modes without elections.
 */
export async function saveJob(
  redis: RedisClient,
  keys: Keys,
  state: JobState,
  next: JobRecord,
  givenUp: readonly string[],
  election: Election | null,
): Promise<z.output<typeof saveReply>> {
  const cleanup = next.tasks.filter((task) => task.cleanup === true).flatMap(({ id }) => [`cleanup:${id}`, "1"]);
  const added = next.tasks.slice(state.record.tasks.length);
  const reply = await save.call(
    redis,
    [keys.job(next.id)],
    [
      state.record.orchestration?.version ?? 0,
      state.written,
      JSON.stringify(next),
      runnersOf(next),
      election?.id ?? "",
      givenUp.length,
      ...givenUp,
      ...cleanup,
      ...(await digestFields(added, election !== null)),
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
  election: Election | null,
): Promise<z.output<typeof saveReply>> {
  const from = tasks.flatMap(({ id, attempt }) => [id, attempt]);
  return saveReply.parse(await raise.call(redis, [keys.job(record.id)], [written, election?.id ?? "", ...from]));
}

/**
 * Takes a job over for an election, before the first decision under it: the next attempts of `tasks`, all that are unfinished, are
 * the ones that count from then on. @returns "older" if the job was decided under an election of a higher order.
 */
export async function takeOverJob(
  redis: RedisClient,
  keys: Keys,
  election: JobElection,
  { record, written }: JobState,
  tasks: readonly Task[],
): Promise<z.output<typeof takeOverReply>> {
  const reply = await takeOver.call(
    redis,
    [keys.job(record.id)],
    [
      written,
      ...jobElectionText(election).split(" "),
      tasks.length,
      ...tasks.flatMap(({ id, attempt }) => [id, attempt]),
      ...(await digestFields(tasks, election.id !== null)),
    ],
  );
  return takeOverReply.parse(reply);
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

type CloseReply =
  | { readonly kind: "closed"; readonly mark: NonNullable<JobMarks["closed"]> }
  | { readonly kind: "was"; readonly mark: NonNullable<JobMarks["closed"]> }
  | { readonly kind: "changed" }
  | { readonly kind: "unknown" };

/**
 * Closes a job for good, unless more was written beside it than the decision was made from.
 * @param told the outcomes that the decision takes from hints, as runner, field, value, …. Anybody may publish a hint, so
 *   each value is compared with the one in Redis.
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
