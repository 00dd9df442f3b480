import * as z from "zod";
import { type Election, type JobElection, jobElectionText } from "../../domain/election.ts";
import {
  closedMark,
  type FinalStatus,
  type JobMarks,
  type JobRecord,
  type JobState,
  type Task,
} from "../../domain/job/job.ts";
import type { RedisClient } from "../connection/client.ts";
import { defineScript } from "../connection/script.ts";
import type { Keys } from "../keys.ts";
import { runnersOf, WHOLE } from "./job-record.ts";
import { digestFields } from "./task-digest.ts";

// What Masters decide about a job: each script writes only if nothing has been written beside the job since the decision was made.

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

// Made once: a schema costs more to make than to use.
const saveReply = z.enum(["ok", "changed", "closed", "unknown"]);
const takeOverReply = z.enum([...saveReply.options, "older"]);
const closeReply = z.union([
  z.tuple([z.enum(["closed", "was"]), z.string()]),
  z.tuple([z.enum(["changed", "unknown"])]),
]);

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
