import * as z from "zod";
import { mayApply } from "../../domain/election.ts";
import type { Claim, Outcomes, Task } from "../../domain/job/job.ts";
import { type StepOutcome, stepOutcome } from "../../domain/stitch/stitch.ts";
import type { RedisClient } from "../connection/client.ts";
import { isCluster } from "../connection/connection.ts";
import { defineScript } from "../connection/script.ts";
import type { Keys } from "../keys.ts";
import { ELECTION, readElection } from "../leader-lease.ts";
import { type OnUnreadable, readField, refuse } from "../unreadable.ts";
import { markJobDue } from "./due-jobs.ts";

/** Larger outcomes do not come with a hint: waiters read them from Redis. A hint goes to every process that listens. */
const MAX_HINT_BYTES = 8192;

/** How long outcomes are kept if there is no record beside them: longer than it takes to move a slot to another Redis. */
const ALONE_KEPT_MS = 86_400_000;

/**
 * Lua: marks of claims that are stale. `is_claimed(outcomes, task)`: is there a claim of any attempt without that mark? Only asked for
 * tasks whose job is over, because it reads all the fields.
 */
const MARK_STALE = `
local function mark_stale(key, claim, at)
  redis.call('HSETNX', key, 'x:' .. claim, at)
  return 'stale_leader'
end
local function is_claimed(key, task)
  if redis.call('HEXISTS', key, 'f:' .. task) == 0 then return false end
  for _, field in ipairs(redis.call('HKEYS', key)) do
    local of, claim = string.match(field, '^c:(([^.]+)%.%d+%.%d+)$')
    if claim == task and redis.call('HEXISTS', key, 'x:' .. of) == 0 then return true end
  end
  return false
end
`;

/**
 * A runner claims a task. KEYS the runner's outcomes. ARGV the job's key, task, attempt, incarnation; for a task that a leader has
 * sent: its digest, and, on a single Redis, its election and the key of the leader's lease.
 * Returns 'ok', or why not: 'unknown' (no such job), 'closed', 'attempt' (not the current one), 'cancelled', 'expired',
 * 'stale_leader' (another leader has been elected, or another task has this id: marked, see `mark_stale`).
 * Cancel and deadline end only tasks that nobody has claimed in any attempt, but for claims that are marked as stale, and never tasks
 * that clean up after a job. A runner that is back claims its tasks again. The highest incarnation that claimed an attempt is kept:
 * see `write_outcomes`.
 * Atomic: a task must never be claimed after it was reported as cancelled or expired.
 * In a Redis Cluster the lease is in another slot, so the runner reads it after this. Never before, nor in one pipeline with this: a
 * leader that is elected between the two would not be seen.
 * The script reads the job's key without declaring it in KEYS: Redis requires the right to write each declared key, and a
 * node's user may not write job records (docs/security.md). The job's key shares the slot.
 */
const claimTask = defineScript<[outcomes: string]>(
  "claim_task",
  1,
  `${ELECTION}${MARK_STALE}
local j = redis.call('HMGET', ARGV[1], 'deadlineAt', 'cancelledAt', 'closed', 'attempt:' .. ARGV[2], 'cleanup:' .. ARGV[2],
  'task:' .. ARGV[2])
if not j[1] then return 'unknown' end
if j[3] then return 'closed' end
if (j[4] or '1') ~= ARGV[3] then return 'attempt' end
local id = ARGV[2] .. '.' .. ARGV[3]
only(KEYS[1], 'hash')
local claim = id .. '.' .. ARGV[4]
if ARGV[5] and j[6] ~= ARGV[5] then
  if redis.call('HEXISTS', KEYS[1], 'c:' .. claim) == 1 then return 'attempt' end
  return mark_stale(KEYS[1], claim, now)
end
if redis.call('HEXISTS', KEYS[1], 'x:' .. claim) == 1 then return 'stale_leader' end
local ends = not j[5] and (j[2] and 'cancelled' or (now >= tonumber(j[1]) and 'expired'))
if ends and not is_claimed(KEYS[1], ARGV[2]) then return ends end
redis.call('HSETNX', KEYS[1], 'f:' .. ARGV[2], now)
redis.call('HSETNX', KEYS[1], 'c:' .. claim, now)
local by = tonumber(redis.call('HGET', KEYS[1], 'by:' .. id) or 0) or 0
redis.call('HSET', KEYS[1], 'by:' .. id, math.max(by, tonumber(ARGV[4])))
if ARGV[7] then
  local current = current_election(ARGV[7])
  if not (current and current.id == ARGV[6]) then return mark_stale(KEYS[1], claim, now) end
end
return 'ok'
`,
);

/**
 * Marks a claim as stale: after it, the runner has found that another leader had been elected, and has applied nothing. KEYS the
 * runner's outcomes. ARGV task, attempt, incarnation.
 */
const markStale = defineScript<[outcomes: string]>(
  "mark_stale",
  1,
  `${MARK_STALE}
return mark_stale(KEYS[1], ARGV[1] .. '.' .. ARGV[2] .. '.' .. ARGV[3], now)
`,
);

/**
 * Writes outcomes; the first one of a step stays. KEYS the runner's outcomes.
 * ARGV the job's key, channel or '', runner, task, attempt, incarnation that claimed it, digest of the task or '', index, outcome, …
 * Returns 1; or 0, and writes nothing, if a higher incarnation has claimed this attempt, or if any incarnation has claimed
 * the next attempt: the task belongs to that one; or if another task has this id since a failover. The node's lease would tell this, too, but it is in another slot.
 * Atomic: a delayed write must not come before the writes of the incarnation that has the task now.
 * If the task has ended, a hint is published after the write: how much is written now, and the outcomes as they are stored,
 * so that waiters need not read them again; without the outcomes if they are too long for a hint.
 * The outcomes expire with the job's record; the script may not declare its key either (see `claim_task`). If there is no
 * record, because the job has expired or its slot is being moved, the outcomes are kept for `ALONE_KEPT_MS`, or until the
 * next write finds a record.
 */
const writeOutcomes = defineScript<[outcomes: string]>(
  "write_outcomes",
  1,
  `
only(KEYS[1], 'hash')
local by = redis.call('HMGET', KEYS[1], 'by:' .. ARGV[4] .. '.' .. ARGV[5], 'by:' .. ARGV[4] .. '.' .. (ARGV[5] + 1))
if (tonumber(by[1] or 0) or 0) > tonumber(ARGV[6]) or by[2] then return 0 end
local digest = ARGV[7] ~= '' and redis.pcall('HGET', ARGV[1], 'task:' .. ARGV[4])
if type(digest) == 'string' and digest ~= ARGV[7] then return 0 end
local steps, bytes = {}, 0
for i = 8, #ARGV, 2 do
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

const writtenReply = z.literal([0, 1]);

const claimReply = z.enum(["ok", "unknown", "closed", "attempt", "cancelled", "expired", "stale_leader"]);

/** The pairs of a hash that Redis replied as field, value, …. */
export function pairsOf(hash: readonly string[]): [field: string, value: string][] {
  const pairs: [string, string][] = [];
  for (let i = 0; i + 1 < hash.length; i += 2) pairs.push([hash[i] ?? "", hash[i + 1] ?? ""]);
  return pairs;
}

/** Adds what a runner's hash holds, given as field, value, …, to claims, outcomes and stale attempts. See `Outcomes`. */
export function readOutcomes(
  { onUnreadable, ...at }: { readonly id: string; readonly key: string; readonly onUnreadable: OnUnreadable },
  out: readonly string[],
  { claims, steps, stale }: { claims: Claim[]; steps: Map<string, StepOutcome>; stale: Set<string> },
): void {
  const pairs = pairsOf(out);
  const marked = new Set(pairs.flatMap(([field]) => (field.startsWith("x:") ? field.slice(2) : [])));
  for (const claimed of marked) stale.add(claimed.slice(0, claimed.lastIndexOf(".")));
  for (const [field, value] of pairs) {
    if (field.startsWith("s:")) {
      const outcome = readField(stepOutcome, value, { ...at, field }, onUnreadable);
      if (outcome !== null) steps.set(field.slice(2), outcome);
    } else if (field.startsWith("c:") && !marked.has(field.slice(2))) {
      const [task = "", attempt, incarnation] = field.slice(2).split(".");
      claims.push({ task, attempt: Number(attempt), incarnation: Number(incarnation), atMs: Number(value) });
    }
  }
}

const outcomesHint = z.object({ runner: z.string(), written: z.int(), steps: z.array(z.string()).default([]) });
/** The content of a hint: outcomes that one runner has written, and how much it had written by then. `told`: see `closeJob`. */
type OutcomesHint = {
  readonly runner: string;
  readonly written: number;
  readonly steps: Outcomes["steps"];
  readonly told: readonly string[];
};

/** Reads the payload of a hint on a job's channel; null if it is empty (it only says to look), or cannot be read. */
export function readHint(payload: string): OutcomesHint | null {
  if (payload === "") return null;
  try {
    const { runner, written, steps: told } = outcomesHint.parse(JSON.parse(payload));
    const steps = new Map<string, StepOutcome>();
    readOutcomes({ id: "", key: "", onUnreadable: refuse }, told, { claims: [], steps, stale: new Set() });
    return { runner, written, steps, told: pairsOf(told).flatMap((pair) => [runner, ...pair]) };
  } catch {
    // The command was accepted; a hint must not turn its answer into an error.
    return null;
  }
}

export type ClaimReply = z.output<typeof claimReply>;

/**
 * Claims a task. Safe to repeat. `runner`: the node's id, or `MASTER_RUNNER`.
 * @param led for a task that a leader has sent: its election, and the task's digest. Both are compared.
 */
export async function claim(
  redis: RedisClient,
  keys: Keys,
  job: string,
  runner: string,
  task: Pick<Task, "id" | "attempt">,
  incarnation: number,
  led: { readonly election: string; readonly digest: string } | null = null,
): Promise<ClaimReply> {
  const outcomes = keys.jobOutcomes(job, runner);
  const args = [keys.job(job), task.id, task.attempt, incarnation];
  if (led === null) return claimed(redis, keys, job, claimTask.call(redis, [outcomes], args));
  const { election, digest } = led;
  if (!isCluster(redis)) {
    const all = [...args, digest, election, keys.leaderLease];
    return claimed(redis, keys, job, claimTask.call(redis, [outcomes], all));
  }
  const reply = await claimed(redis, keys, job, claimTask.call(redis, [outcomes], [...args, digest]));
  if (reply !== "ok" || mayApply(election, await readElection(redis, keys))) return reply;
  return claimReply.parse(await markStale.call(redis, [outcomes], [task.id, task.attempt, incarnation]));
}

async function claimed(redis: RedisClient, keys: Keys, job: string, replying: Promise<unknown>): Promise<ClaimReply> {
  const reply = await replying;
  // While a Redis Cluster moves the slot, the script may have run on the server that does not have the record yet. Only a
  // command on the record's own key shows whether the record is gone.
  if (reply === "unknown" && (await redis.hexists(keys.job(job), "record")) === 1)
    throw new Error(`TRYAGAIN the record of ${job} is on its way to another Redis; the task is claimed later`);
  return claimReply.parse(reply);
}

/**
 * Writes outcomes of a task's steps, in one round trip. `ended`: these are the last outcomes of the task. Safe to repeat:
 * the first outcome of a step stays. `incarnation`: the one that claimed the task. `digest`: of a task that a leader has sent.
 * @returns true if the task still belongs to that incarnation; else nothing is written.
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
  digest = "",
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
      digest,
      ...[...outcomes].flatMap(([index, outcome]) => [index, JSON.stringify(outcome)]),
    ],
  );
  // Sent after the outcomes, in the same round trip.
  if (ended) markJobDue(redis, keys, job).catch(untilTheSweep);
  return writtenReply.parse(await writing) === 1;
}

/** A mark that fails costs only a hint: the outcomes are there, and the sweep finds the job. */
function untilTheSweep(): void {}
