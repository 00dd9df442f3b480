import type { FoldedJob, Runner } from "./fold.ts";
import type { Claim, JobState, Task } from "./job.ts";

/**
 * A restarted worker's queue delivers by itself what the former life had taken up, within about 6 s (see `NodeQueueWorker`).
 * Sent again sooner, each restart would carry its tasks out in two attempts.
 */
export const REDELIVERED_MS = 10_000;
/**
 * A node that has taken a task up answers when its steps have ended, though that be after the deadline: a stitch has 30 s to
 * come up, and some to stop, by default. Silent for so long after it, the outcome is taken for lost. Too early costs an
 * entry in the queue that waits for the same steps; too late holds up nothing but the end of this job.
 */
export const OUTCOME_LOST_MS = 60_000;

type SendAgain = {
  /** Nobody has taken up the attempt that counts: in case its entry in the queue is lost. A queue takes no attempt twice. */
  readonly asTheyAre: readonly Task[];
  /** Taken up, and never heard of again: as the next attempt. */
  readonly asNextAttempt: readonly Task[];
};

/**
 * Which tasks of nodes a sweep sends on their way again, with the attempt that counts so far. What is sent once too often is
 * harmless: a node carries out a step once per revision.
 *
 * A node that is not alive is left alone: the fold tells what becomes of its tasks. One that is not in `runners` is not known.
 */
export function tasksToSendAgain(state: JobState, folded: FoldedJob, runners: ReadonlyMap<string, Runner>): SendAgain {
  const claims = Map.groupBy(state.outcomes.claims, ({ task }) => task);
  const asTheyAre: Task[] = [];
  const asNextAttempt: Task[] = [];
  for (const { task, status, ahead } of folded.tasks) {
    if (ahead === true || task.runs !== "node" || (status !== "pending" && status !== "running")) continue;
    const ofTask = claims.get(task.id) ?? [];
    const runner = runners.get(task.node);
    if (!ofTask.some(({ attempt }) => attempt === task.attempt)) asTheyAre.push(task);
    else if (runner !== undefined && isLost(state, task, ofTask, runner)) asNextAttempt.push(task);
  }
  return { asTheyAre, asNextAttempt };
}

/** @param claims of this task, one of the attempt that counts among them. */
function isLost({ record, nowMs, attempts }: JobState, task: Task, claims: readonly Claim[], runner: Runner): boolean {
  if (attempts.get(task.id) === null || runner.liveness !== "alive") return false;
  const current = claims.filter(({ attempt }) => attempt === task.attempt);
  if (current.every(({ incarnation }) => incarnation < runner.incarnation))
    return nowMs >= runner.startedAtMs + REDELIVERED_MS;
  // A step that takes for ever is asked for ever less often: what waits for it in the node is bounded.
  const times = claims.filter(({ incarnation }) => incarnation >= runner.incarnation).length;
  const sinceMs = Math.max(task.untilMs ?? record.deadlineAtMs, ...current.map(({ atMs }) => atMs));
  return nowMs >= sinceMs + OUTCOME_LOST_MS * 2 ** (times - 1);
}
