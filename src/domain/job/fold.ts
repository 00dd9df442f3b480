import {
  attemptKey,
  type Chain,
  type FinalStatus,
  type JobState,
  type Link,
  type Orchestration,
  outcomeKey,
  type Step,
  type Task,
} from "./job.ts";
import type { StepStatus } from "./job-status.ts";
import type { Liveness } from "../node/node.ts";
import type { StepError, StepOutcome } from "../stitch/stitch.ts";

/** What is known about the node of a task that has not ended. `startedAtMs`: when its current incarnation registered. */
export type Runner = { readonly liveness: Liveness; readonly incarnation: number; readonly startedAtMs: number };

export type FoldedStep = {
  readonly step: Step;
  readonly status: StepStatus;
  readonly outcome: StepOutcome | null;
  readonly error: StepError | null;
  /** The node never wrote an outcome, and a Master has done the step instead: only the Master's step counts. */
  readonly takenOver?: true;
};
export type FoldedTask = {
  /** With the attempt that counts. */
  readonly task: Task;
  readonly status: StepStatus;
  readonly steps: readonly FoldedStep[];
  /** Steps of a wave that has not begun, or never will. This is not a task of the record, and no node may claim it. */
  readonly ahead?: true;
};
export type Counts = Record<"total" | StepStatus, number>;

export type FoldedJob = {
  readonly tasks: readonly FoldedTask[];
  readonly counts: Counts;
  /** The verdict, once nothing of the job runs or may still run; else null. */
  readonly verdict: FinalStatus | null;
  readonly started: boolean;
};

const ENDED: ReadonlySet<StepStatus> = new Set([
  "succeeded",
  "failed",
  "superseded",
  "cancelled",
  "expired",
  "unknown",
]);

const failure = (code: StepError["code"], message: string): StepError => ({ code, message });

/** The status of a step that was never carried out, by the reason. */
const statusFor = ({ code }: StepError): StepStatus =>
  code === "cancelled" || code === "expired" || code === "superseded" ? code : "failed";

/** The status of the steps of a task that nobody has claimed: pending, or ended with the reason why nobody ever will. */
function unclaimed(
  state: JobState,
  task: Task,
  runner: Runner | undefined,
): { status: StepStatus; error: StepError | null } {
  if (task.refused !== null) return { status: statusFor(task.refused), error: task.refused };
  if (state.marks.cancelledAtMs !== null && task.cleanup !== true)
    return { status: "cancelled", error: failure("cancelled", "the job was cancelled before the node took it up") };
  const { closed } = state.marks;
  const untilMs = task.cleanup === true ? (task.untilMs ?? Number.POSITIVE_INFINITY) : state.record.deadlineAtMs;
  if ((closed?.atMs ?? state.nowMs) >= untilMs)
    return { status: "expired", error: failure("expired", "the deadline passed before the node took it up") };
  if (task.runs === "node" && !(state.record.waitForNode && waits(task))) {
    if (runner?.liveness === "dead")
      return { status: "failed", error: failure("node_dead", `${task.node} died before it took this up`) };
    if (runner?.liveness === "left")
      return { status: "failed", error: failure("node_left", `${task.node} left before it took this up`) };
  }
  // The job was closed while this task was open, so the node was dead or had left. It may be back by now.
  if (closed !== null)
    return { status: "failed", error: failure("node_dead", `${task.node} was away when the job ended`) };
  if (state.outcomes.stale.has(attemptKey(task)))
    return { status: "pending", error: failure("stale_leader", "another leader was elected; it sends this again") };
  return { status: "pending", error: null };
}

/** A task that takes something back does not wait for its node: if the node is dead, a Master writes a tombstone. */
const waits = ({ cleanup, steps }: Task): boolean =>
  cleanup !== true || steps.every(({ action }) => action !== "remove");

/** A task of the record, with the attempt that counts. If the task is given up: the last attempt that was claimed. */
function withAttempt(state: JobState, task: Task): Task {
  const raised = state.attempts.get(task.id);
  if (raised === undefined) return task;
  if (raised !== null) return { ...task, attempt: raised };
  const taken = state.outcomes.claims.flatMap((claim) => (claim.task === task.id ? claim.attempt : []));
  return { ...task, attempt: Math.max(task.attempt, ...taken) };
}

/** @param claimed by any runner, in any attempt: the task may have been carried out, so it is neither cancelled nor expired. */
function foldTask(state: JobState, task: Task, claimed: boolean, runner: Runner | undefined): FoldedTask {
  // A dead node cannot finish what it claimed. A node that left gave its tasks back in good order and may be restarting: it
  // has until the deadline.
  const away = runner?.liveness === "dead" || (runner?.liveness === "left" && state.nowMs >= state.record.deadlineAtMs);
  // If the job was closed while the task was open, its node was away then. It may be back, and the outcome may still come.
  const lost = claimed && task.runs === "node" && (away || state.marks.closed !== null);
  const ahead = claimed ? null : unclaimed(state, task, runner);
  const steps = task.steps.map((step, index): FoldedStep => {
    const outcome = takenIn(state, task, index) ?? state.outcomes.steps.get(outcomeKey(task, index)) ?? null;
    if (outcome !== null) return { step, status: outcome.status, outcome, error: outcome.error };
    if (ahead !== null) return { step, status: ahead.status, outcome: null, error: ahead.error };
    if (!lost) return { step, status: "running", outcome: null, error: null };
    const code = runner?.liveness === "left" ? "node_left" : "node_dead";
    const gone = away ? `is ${runner?.liveness}` : "was away when the job ended";
    return {
      step,
      status: "unknown",
      outcome: null,
      error: failure(code, `${task.node} took this up and ${gone}; whether it was done is not known`),
    };
  });
  return { task, status: statusOf(steps.map((folded) => folded.status)), steps };
}

/**
 * The outcome with which a chain has succeeded. The task may have been sent again because of its other steps. Whatever that
 * attempt brings, this step was done.
 */
function takenIn({ record, outcomes }: JobState, task: Task, index: number): StepOutcome | null {
  if (task.attempt === 1 || record.orchestration === null) return null;
  const ref = `${task.id}.${index}`;
  if (!record.orchestration.chains.some((chain) => chain.ref === ref && chain.status === "succeeded")) return null;
  for (let attempt = 1; attempt < task.attempt; attempt++) {
    const outcome = outcomes.steps.get(outcomeKey({ id: task.id, attempt }, index));
    if (outcome?.status === "succeeded") return outcome;
  }
  return null;
}

/** One status for several steps: first what still runs, then success only if everything succeeded, else the worst. */
function statusOf(statuses: readonly StepStatus[]): StepStatus {
  const has = (status: StepStatus) => statuses.includes(status);
  const all = (status: StepStatus) => statuses.every((each) => each === status);
  if (all("pending")) return "pending";
  if (has("running") || has("pending")) return "running";
  if (all("succeeded")) return "succeeded";
  for (const status of ["unknown", "failed", "expired", "cancelled", "superseded"] as const)
    if (has(status)) return status;
  return "succeeded";
}

/**
 * A job's status: a pure function of its record, its marks and the outcomes beside it. It does not depend on the reader, on
 * the order of the outcomes, or on how often they came. Never a verdict while a part still runs.
 *
 * @param runners what is known about the nodes whose tasks have not ended; a node left out counts as alive.
 */
export function foldJob(state: JobState, runners: ReadonlyMap<string, Runner>): FoldedJob {
  const { orchestration } = state.record;
  const claimed = new Set(state.outcomes.claims.map(({ task }) => task));
  const byMasters = removedByMasters(state.record.tasks);
  const sent = state.record.tasks
    .map((task) => foldTask(state, withAttempt(state, task), claimed.has(task.id), runners.get(task.node)))
    .map((folded) => (folded.task.runs === "master" ? folded : markTakenOver(folded, byMasters)));
  const tasks = orchestration === null ? sent : [...sent, ...foldAhead(orchestration)];
  const counts: Counts = {
    total: 0,
    pending: 0,
    running: 0,
    succeeded: 0,
    failed: 0,
    superseded: 0,
    cancelled: 0,
    expired: 0,
    unknown: 0,
  };
  for (const folded of tasks) {
    for (const step of folded.steps) {
      if (step.takenOver === true) continue;
      counts.total += 1;
      counts[step.status] += 1;
    }
  }
  const verdict = orchestration === null ? verdictOf(counts) : orchestration.ended;
  return { tasks, counts, verdict, started: counts.pending < counts.total };
}

/** Full ids of the stitches that a Master removes itself, because their node is away. */
const removedByMasters = (tasks: readonly Task[]): ReadonlySet<string> =>
  new Set(
    tasks.flatMap(({ runs, steps }) =>
      runs === "node"
        ? []
        : steps.flatMap(({ action, stitch }) => (action === "remove" && stitch !== null ? stitch : [])),
    ),
  );

const markTakenOver = (folded: FoldedTask, byMasters: ReadonlySet<string>): FoldedTask => ({
  ...folded,
  steps: folded.steps.map((each) => {
    const { step, outcome, status } = each;
    const isDoneByOther = step.action === "remove" && byMasters.has(step.stitch);
    return isDoneByOther && outcome === null && hasEnded(status) ? { ...each, takenOver: true } : each;
  }),
});

/** The tasks with only the steps that count: without the steps that a Master has done instead. */
export const countedTasks = (tasks: readonly FoldedTask[]): FoldedTask[] =>
  tasks.flatMap((task) => {
    const steps = task.steps.filter(({ takenOver }) => takenOver !== true);
    if (steps.length === task.steps.length) return [task];
    return steps.length === 0 ? [] : [{ ...task, steps, status: statusOf(steps.map(({ status }) => status)) }];
  });

/** The steps that chains have not sent yet, or never will: a task for each node, so that a job shows all that it has to do. */
function foldAhead({ chains }: Orchestration): FoldedTask[] {
  const byNode = new Map<string, FoldedStep[]>();
  for (const chain of chains) {
    for (const { node, step } of linksAhead(chain)) {
      const steps = byNode.get(node) ?? [];
      byNode.set(node, steps);
      const ended = chain.status !== null;
      const why = chain.error?.message ?? "the job ended before";
      steps.push({
        step,
        status: ended ? "cancelled" : "pending",
        outcome: null,
        error: ended ? failure("cancelled", `not begun: ${why}`) : null,
      });
    }
  }
  return [...byNode].map(([node, steps]) => ({
    task: {
      id: `ahead.${node}`,
      node,
      runs: "node",
      attempt: 1,
      wave: 0,
      steps: steps.map(({ step }) => step),
      refused: null,
    },
    status: statusOf(steps.map(({ status }) => status)),
    steps,
    ahead: true,
  }));
}

/** The links of a chain for which no task was made. */
function linksAhead({ phase, at, ref, links }: Chain): Link[] {
  const neverBegun = phase === "waiting" || (phase === "ended" && ref === null);
  if (neverBegun) return links;
  return links.slice(phase === "running" && ref === null ? at : at + 1);
}

function verdictOf(counts: Counts): FinalStatus | null {
  if (counts.pending + counts.running > 0) return null;
  if (counts.cancelled > 0) return "cancelled";
  if (counts.expired > 0) return "expired";
  if (counts.succeeded === counts.total) return "succeeded";
  return counts.succeeded === 0 ? "failed" : "partial";
}

/** The nodes whose liveness matters to the fold: the nodes of tasks with a step that has no outcome yet. */
export function nodesInDoubt(state: JobState): string[] {
  const nodes = new Set<string>();
  for (const task of state.record.tasks) {
    if (task.runs !== "node" || task.refused !== null) continue;
    const current = withAttempt(state, task);
    if (task.steps.some((_, index) => !state.outcomes.steps.has(outcomeKey(current, index)))) nodes.add(task.node);
  }
  return [...nodes];
}

export const hasEnded = (status: StepStatus): boolean => ENDED.has(status);
