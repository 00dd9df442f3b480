import { countedTasks, type FoldedJob, type FoldedStep, type FoldedTask, hasEnded } from "../../domain/job/fold.ts";
import { type JobRecord, type JobState, PAST } from "../../domain/job/job.ts";
import type { StitchSpec } from "../../domain/stitch/spec.ts";
import { progressOf } from "../../domain/job/progress.ts";
import type { JobStatus } from "../../domain/job/job-status.ts";
import type {
  FailureResource,
  JobResource,
  ListedJobResource,
  ListedStepResource,
  StepResource,
  TaskResource,
} from "../../contract/job.ts";
import { iso } from "../../contract/time.ts";

/** Most steps, and most stitches, in one body. */
const BODY_LIMIT = 1000;

const isoOrNull = (ms: number | null | undefined): string | null => (ms == null ? null : iso(ms));

function stepView({ step, status, outcome, error }: FoldedStep): StepResource {
  return {
    action: step.action,
    stitch: step.stitch,
    status,
    changed: outcome?.changed ?? null,
    startedAt: isoOrNull(outcome?.startedAtMs),
    finishedAt: isoOrNull(outcome?.finishedAtMs),
    output: outcome?.output ?? null,
    error: failureView(error),
  };
}

function failureView(error: FoldedStep["error"]): FailureResource | null {
  if (error === null) return null;
  const { code, message, stderrTail } = error;
  return stderrTail === undefined ? { code, message } : { code, message, stderrTail };
}

function statusOf(state: JobState, folded: FoldedJob): JobStatus {
  if (state.marks.closed !== null) return state.marks.closed.status;
  if (state.marks.cancelledAtMs !== null) return "cancelling";
  return folded.started ? "running" : "pending";
}

/**
 * A job as a row of a list, without its tasks. Its status is final only once a Master has closed it.
 * @param spec the spec that the command came with, if it is shown in full.
 */
export function listedJob(state: JobState, folded: FoldedJob, spec: StitchSpec | null = null): ListedJobResource {
  const { record, marks } = state;
  const status = statusOf(state, folded);
  // A chain knows why it was undone; its steps may all have succeeded.
  const chain = record.orchestration?.chains.find((each) => each.error !== null);
  const failed = countedTasks(folded.tasks)
    .flatMap((task) => task.steps)
    .find((step) => step.error !== null);
  const error = withTail(chain?.error ?? null, failed?.error ?? null);
  const done = folded.counts.total - folded.counts.pending - folded.counts.running;
  const [first] = record.tasks[0]?.steps ?? [];
  const verb = first === undefined ? "done" : PAST[first.action];
  const final = marks.closed !== null;
  return {
    id: record.id,
    command: record.command,
    target: record.target,
    options: optionsOf(record, spec),
    reason: record.reason,
    by: record.by,
    master: record.master,
    status,
    revision: String(record.revision),
    createdAt: iso(record.createdAtMs),
    deadlineAt: iso(record.deadlineAtMs),
    finishedAt: isoOrNull(marks.closed?.atMs),
    counts: folded.counts,
    progress:
      record.orchestration === null
        ? {
            wave: 1,
            waves: 1,
            message: final
              ? `${folded.counts.succeeded} of ${folded.counts.total} ${verb}`
              : `${done} of ${folded.counts.total} done`,
          }
        : progressOf(record),
    stitches: stitchesOf(folded).slice(0, BODY_LIMIT),
    error: final && status !== "succeeded" ? failureView(error) : null,
    retryOf: record.retryOf,
    retriedBy: marks.retriedBy ?? null,
    rollbackOf: record.rollbackOf,
    rolledBackBy: marks.rolledBackBy ?? null,
    causedBy: null,
  };
}

/** The options with the spec as the client sent it, or with the spec hash if the spec is not available. */
function optionsOf({ options, asked }: JobRecord, known: StitchSpec | null): Record<string, unknown> {
  if (asked === null) return options;
  if (known === null) return { ...options, specHash: asked.specHash };
  const { reschedule: _, ...rest } = known;
  return { ...options, spec: asked.reschedule === null ? rest : { ...rest, reschedule: asked.reschedule } };
}

const stitchesOf = (folded: FoldedJob): string[] => [
  ...new Set(folded.tasks.flatMap(({ steps }) => steps.flatMap(({ step }) => step.stitch ?? []))),
];

/** The job's error: the chain's, or a step's error with the same code, which also has the last lines of the program. */
const withTail = (chain: FoldedStep["error"], step: FoldedStep["error"]): FoldedStep["error"] =>
  chain === null || chain.code === step?.code ? step : chain;

const isGood = (step: FoldedStep) => step.status === "succeeded" || !hasEnded(step.status);

/** A job with its tasks: at most 1000 steps. Steps that ended without success come first. */
export function jobView(state: JobState, folded: FoldedJob, spec: StitchSpec | null): JobResource {
  const truncated = folded.counts.total > BODY_LIMIT;
  const view = (task: FoldedTask, steps: readonly FoldedStep[]): TaskResource => ({
    id: task.task.id,
    node: task.task.node,
    status: task.status,
    attempt: task.task.attempt,
    steps: steps.map(stepView),
  });
  const counted = countedTasks(folded.tasks);
  if (!truncated) return { ...listedJob(state, folded, spec), tasks: counted.map((task) => view(task, task.steps)) };
  let left = BODY_LIMIT;
  const chosen = new Set<FoldedStep>();
  for (const wanted of [false, true]) {
    for (const step of counted.flatMap((task) => task.steps)) {
      if (left > 0 && isGood(step) === wanted) {
        chosen.add(step);
        left -= 1;
      }
    }
  }
  const failuresFirst = (a: FoldedStep, b: FoldedStep) => Number(isGood(a)) - Number(isGood(b));
  const tasks = counted
    .map((task) => ({ task, steps: task.steps.filter((step) => chosen.has(step)).sort(failuresFirst) }))
    .filter(({ steps }) => steps.length > 0)
    .sort((a, b) => Number(a.steps.every(isGood)) - Number(b.steps.every(isGood)));
  return {
    ...listedJob(state, folded, spec),
    tasks: tasks.map(({ task, steps }) => view(task, steps)),
    truncated: true,
  };
}

/** Every step of a job, in the order of its tasks. */
export function allSteps(folded: FoldedJob): ListedStepResource[] {
  return countedTasks(folded.tasks).flatMap((task) =>
    task.steps.map((step) => ({ ...stepView(step), task: task.task.id, node: task.task.node })),
  );
}
