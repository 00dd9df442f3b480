import type { FoldedJob, Runner } from "./fold.ts";
import { attemptKey, type Claim, type JobState, type Task } from "./job.ts";

/**
 * A restarted worker's queue delivers again by itself what its former life had claimed, within about 6 s (see
 * `QueueWorker`). If a Master sent the tasks again sooner, each restart would carry them out in two attempts.
 */
export const REDELIVERED_MS = 10_000;
/**
 * A node that has claimed a task answers when its steps have ended, even after the deadline: by default, a stitch has 30 s to
 * come up, and some to stop. If the node is silent for this long after the deadline, the outcome counts as lost. Too early
 * costs an entry in the queue that waits for the same steps; too late delays only the end of this job.
 */
export const OUTCOME_LOST_MS = 60_000;

type SendAgain = {
  /** Nobody has claimed the attempt that counts: its entry in the queue may be lost. A queue takes no attempt twice. */
  readonly asTheyAre: readonly Task[];
  /** Claimed without an outcome, or not applied because of another leader: they are sent as the next attempt. */
  readonly asNextAttempt: readonly Task[];
};

/**
 * Which tasks of nodes a sweep sends again, and which of Masters need another attempt, with the attempt that counts so far. A task
 * that is sent once too often is harmless: a node carries out a step once per revision.
 *
 * A node that is not alive gets no next attempt: the fold tells what happens to its tasks. The same holds for a node that is
 * not in `runners`: it is not known.
 */
export function tasksToSendAgain(state: JobState, folded: FoldedJob, runners: ReadonlyMap<string, Runner>): SendAgain {
  const claims = Map.groupBy(state.outcomes.claims, ({ task }) => task);
  const asTheyAre: Task[] = [];
  const asNextAttempt: Task[] = [];
  for (const { task, status, ahead } of folded.tasks) {
    if (ahead === true || (status !== "pending" && status !== "running")) continue;
    const ofTask = claims.get(task.id) ?? [];
    const runner = runners.get(task.node);
    const isClaimed = ofTask.some(({ attempt }) => attempt === task.attempt);
    if (!isClaimed && state.outcomes.stale.has(attemptKey(task))) asNextAttempt.push(task);
    else if (task.runs !== "node") continue;
    else if (!isClaimed) asTheyAre.push(task);
    else if (runner !== undefined && isLost(state, task, ofTask, runner)) asNextAttempt.push(task);
  }
  return { asTheyAre, asNextAttempt };
}

/** @param claims the claims of this task; at least one is of the attempt that counts. */
function isLost({ record, nowMs, attempts }: JobState, task: Task, claims: readonly Claim[], runner: Runner): boolean {
  if (attempts.get(task.id) === null || runner.liveness !== "alive") return false;
  const current = claims.filter(({ attempt }) => attempt === task.attempt);
  if (current.every(({ incarnation }) => incarnation < runner.incarnation))
    return nowMs >= runner.startedAtMs + REDELIVERED_MS;
  // A step that never ends is sent again less and less often: so the number of entries that wait for it in the node is bounded.
  const times = claims.filter(({ incarnation }) => incarnation >= runner.incarnation).length;
  const sinceMs = Math.max(task.untilMs ?? record.deadlineAtMs, ...current.map(({ atMs }) => atMs));
  return nowMs >= sinceMs + OUTCOME_LOST_MS * 2 ** (times - 1);
}
