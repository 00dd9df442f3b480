import fc from "fast-check";
import { foldJob, type Runner } from "../../../src/domain/job/fold.ts";
import { type Claim, type JobState, outcomeKey, type Task } from "../../../src/domain/job/job.ts";
import type { Liveness } from "../../../src/domain/node/node.ts";
import type { StepError, StepOutcome } from "../../../src/domain/stitch/stitch.ts";

const LIVENESS: readonly Liveness[] = ["alive", "suspect", "dead", "left"];
const STATUSES: readonly StepOutcome["status"][] = ["succeeded", "failed", "superseded", "cancelled"];

export const outcomeOf = (status: StepOutcome["status"]): StepOutcome => ({
  status,
  changed: status === "succeeded",
  startedAtMs: 10,
  finishedAtMs: 20,
  output: null,
  error: status === "succeeded" ? null : { code: "internal", message: status },
});

type Over = {
  runs?: Task["runs"];
  /** The attempt that counts; null: the task is given up. */
  attempt?: number | null;
  refused?: StepError["code"];
  /** Claimed by attempt 1. */
  claimed?: boolean;
  /** A claim of attempt 1 found another leader. */
  stale?: boolean;
  /** The outcome of attempt 1. */
  outcome?: StepOutcome;
  waitForNode?: boolean;
  cancelledAtMs?: number;
  nowMs?: number;
};

const jobOf = (tasks: Task[], waitForNode: boolean): JobState["record"] => ({
  id: "j1",
  command: "node.ping",
  target: "n1",
  options: {},
  asked: null,
  reason: null,
  by: null,
  master: "m1",
  revision: 1,
  createdAtMs: 0,
  deadlineAtMs: 1000,
  waitForNode,
  orchestration: null,
  retryOf: null,
  rollbackOf: null,
  tasks,
});

const taskOf = (id: string, steps: number, over: Over): Omit<Task, "node"> => ({
  id,
  runs: over.runs ?? "node",
  attempt: 1,
  wave: 0,
  steps: Array.from({ length: steps }, () => ({ action: "ping", stitch: null })),
  refused: over.refused === undefined ? null : { code: over.refused, message: "refused" },
});

/** A job of one task with one step on `n1`. Its deadline is 1000. */
export const stateOf = (over: Over): JobState => ({
  record: jobOf([{ ...taskOf("t0", 1, over), node: "n1" }], over.waitForNode ?? false),
  bodyHash: "",
  marks: { cancelledAtMs: over.cancelledAtMs ?? null, closed: null },
  election: null,
  attempts: new Map(over.attempt === undefined ? [] : [["t0", over.attempt]]),
  outcomes: {
    stale: new Set(over.stale === true ? ["t0.1"] : []),
    claims: over.claimed === true ? [{ task: "t0", attempt: 1, incarnation: 1, atMs: 5 }] : [],
    steps: new Map(over.outcome === undefined ? [] : [["t0.1.0", over.outcome]]),
  },
  nowMs: over.nowMs ?? 500,
  written: 0,
});

export const runnersOf = (nodes: Record<string, Liveness>): ReadonlyMap<string, Runner> =>
  new Map(Object.entries(nodes).map(([id, liveness]) => [id, { liveness, incarnation: 1, startedAtMs: 0 }]));

const taskArbitrary = fc.record({
  steps: fc.array(fc.option(fc.constantFrom(...STATUSES)), { minLength: 1, maxLength: 3 }),
  runs: fc.constantFrom<Task["runs"]>("node", "node", "master"),
  attempt: fc.constantFrom(undefined, undefined, 2, null),
  claims: fc.array(fc.constantFrom(1, 2), { maxLength: 3 }),
  refused: fc.constantFrom(false, false, false, true),
  liveness: fc.option(fc.constantFrom(...LIVENESS)),
});

/** Jobs of up to four tasks, each on its own node, seen at any moment: some outcomes exist, some do not. */
export const jobs = fc
  .record({
    tasks: fc.array(taskArbitrary, { minLength: 1, maxLength: 4 }),
    waitForNode: fc.boolean(),
    cancelledAtMs: fc.constantFrom(null, null, 7),
    nowMs: fc.constantFrom(0, 999, 1000, 5000),
  })
  .map(({ tasks, waitForNode, cancelledAtMs, nowMs }) => {
    const runners = new Map<string, Runner>();
    const attempts = new Map<string, number | null>();
    const claims: Claim[] = [];
    const steps = new Map<string, StepOutcome>();
    const made = tasks.map((task, t): Task => {
      const node = `n${t}`;
      if (task.liveness !== null) runners.set(node, { liveness: task.liveness, incarnation: 1, startedAtMs: 0 });
      if (task.refused)
        return { ...taskOf(`t${t}`, task.steps.length, { runs: task.runs, refused: "node_dead" }), node };
      if (task.attempt !== undefined) attempts.set(`t${t}`, task.attempt);
      for (const attempt of task.claims) claims.push({ task: `t${t}`, attempt, incarnation: claims.length, atMs: 5 });
      const made = { ...taskOf(`t${t}`, task.steps.length, { runs: task.runs }), node };
      const attempt = task.attempt ?? 1;
      for (const [s, status] of task.steps.entries())
        if (status !== null) steps.set(outcomeKey({ ...made, attempt }, s), outcomeOf(status));
      return made;
    });
    const state: JobState = {
      ...stateOf({ nowMs }),
      record: jobOf(made, waitForNode),
      attempts,
      outcomes: { claims, steps, stale: new Set() },
    };
    return { state: { ...state, marks: { cancelledAtMs, closed: null } }, runners };
  });

/** The same state with its claims and outcomes in another order, some claims twice. */
export const alike = (state: JobState): fc.Arbitrary<JobState> => {
  const { claims, steps } = state.outcomes;
  const entries = [...steps];
  const inOrder = fc.shuffledSubarray(entries, { minLength: entries.length });
  const again = fc.subarray([...claims]).chain((more) => {
    const all = [...claims, ...more];
    return fc.shuffledSubarray(all, { minLength: all.length });
  });
  return fc.tuple(again, inOrder).map(([repeated, shuffled]) => ({
    ...state,
    outcomes: { ...state.outcomes, claims: repeated, steps: new Map(shuffled) },
  }));
};

/** The state with an outcome for every step, and the statuses of all steps. Missing outcomes are made up. */
export function withAll(state: JobState): { state: JobState; statuses: StepOutcome["status"][] } {
  const steps = new Map(state.outcomes.steps);
  const statuses: StepOutcome["status"][] = [];
  for (const [t, { task }] of foldJob(state, new Map()).tasks.entries())
    for (const s of task.steps.keys()) {
      const key = outcomeKey(task, s);
      const outcome = steps.get(key) ?? outcomeOf(STATUSES[(t + s + state.nowMs) % 3] ?? "failed");
      steps.set(key, outcome);
      statuses.push(outcome.status);
    }
  return { state: { ...state, outcomes: { ...state.outcomes, steps } }, statuses };
}
