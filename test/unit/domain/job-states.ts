import fc from "fast-check";
import type { Runner } from "../../../src/domain/fold.ts";
import type { Claim, JobState, Task } from "../../../src/domain/job.ts";
import type { Liveness } from "../../../src/domain/resources.ts";
import type { StepError, StepOutcome } from "../../../src/domain/stitch.ts";

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
  attempt?: number;
  refused?: StepError["code"];
  /** By attempt 1. */
  claimed?: boolean;
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
  attempt: over.attempt ?? 1,
  wave: 0,
  steps: Array.from({ length: steps }, () => ({ action: "ping", stitch: null })),
  refused: over.refused === undefined ? null : { code: over.refused, message: "refused" },
});

/** A job of one task of one step on `n1`, with its deadline at 1000. */
export const stateOf = (over: Over): JobState => ({
  record: jobOf([{ ...taskOf("t0", 1, over), node: "n1" }], over.waitForNode ?? false),
  bodyHash: "",
  marks: { cancelledAtMs: over.cancelledAtMs ?? null, closed: null },
  outcomes: {
    claims: over.claimed === true ? [{ task: "t0", attempt: 1, incarnation: 1, atMs: 5 }] : [],
    steps: new Map(over.outcome === undefined ? [] : [["t0.0", over.outcome]]),
  },
  nowMs: over.nowMs ?? 500,
  written: 0,
});

export const runnersOf = (nodes: Record<string, Liveness>): ReadonlyMap<string, Runner> =>
  new Map(Object.entries(nodes).map(([id, liveness]) => [id, { liveness, incarnation: 1 }]));

const taskArbitrary = fc.record({
  steps: fc.array(fc.option(fc.constantFrom(...STATUSES)), { minLength: 1, maxLength: 3 }),
  runs: fc.constantFrom<Task["runs"]>("node", "node", "master"),
  attempt: fc.constantFrom(1, 1, 2),
  claims: fc.array(fc.constantFrom(1, 2), { maxLength: 3 }),
  refused: fc.constantFrom(false, false, false, true),
  liveness: fc.option(fc.constantFrom(...LIVENESS)),
});

/** Jobs of up to four tasks, each on a node of its own, seen at any moment: some outcomes there, some not. */
export const jobs = fc
  .record({
    tasks: fc.array(taskArbitrary, { minLength: 1, maxLength: 4 }),
    waitForNode: fc.boolean(),
    cancelledAtMs: fc.constantFrom(null, null, 7),
    nowMs: fc.constantFrom(0, 999, 1000, 5000),
  })
  .map(({ tasks, waitForNode, cancelledAtMs, nowMs }) => {
    const runners = new Map<string, Runner>();
    const claims: Claim[] = [];
    const steps = new Map<string, StepOutcome>();
    const made = tasks.map((task, t): Task => {
      const node = `n${t}`;
      if (task.liveness !== null) runners.set(node, { liveness: task.liveness, incarnation: 1 });
      if (task.refused)
        return { ...taskOf(`t${t}`, task.steps.length, { runs: task.runs, refused: "node_dead" }), node };
      for (const attempt of task.claims) claims.push({ task: `t${t}`, attempt, incarnation: claims.length, atMs: 5 });
      for (const [s, status] of task.steps.entries()) if (status !== null) steps.set(`t${t}.${s}`, outcomeOf(status));
      return { ...taskOf(`t${t}`, task.steps.length, { runs: task.runs, attempt: task.attempt }), node };
    });
    const state: JobState = { ...stateOf({ nowMs }), record: jobOf(made, waitForNode), outcomes: { claims, steps } };
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
  return fc
    .tuple(again, inOrder)
    .map(([repeated, shuffled]) => ({ ...state, outcomes: { claims: repeated, steps: new Map(shuffled) } }));
};

/** The state with an outcome for every step: those it has, and made-up ones for the rest; and all their statuses. */
export function withAll(state: JobState): { state: JobState; statuses: StepOutcome["status"][] } {
  const steps = new Map(state.outcomes.steps);
  for (const [t, task] of state.record.tasks.entries())
    for (const s of task.steps.keys()) {
      const key = `${task.id}.${s}`;
      if (!steps.has(key)) steps.set(key, outcomeOf(STATUSES[(t + s + state.nowMs) % 3] ?? "failed"));
    }
  const statuses = [...steps.values()].map(({ status }) => status);
  return { state: { ...state, outcomes: { ...state.outcomes, steps } }, statuses };
}
