import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { foldJob, hasEnded, nodesInDoubt } from "../../../src/domain/job/fold.ts";
import { outcomeKey } from "../../../src/domain/job/job.ts";
import { alike, jobs, outcomeOf, runnersOf, stateOf, withAll } from "./job-states.ts";

const RUNS = { numRuns: 1000 };
test("the fold does not depend on the order of claims and outcomes, nor on repeats", () => {
  fc.assert(
    fc.property(
      jobs.chain((job) => fc.tuple(fc.constant(job), alike(job.state))),
      ([{ state, runners }, other]) => {
        const [a, b] = [foldJob(state, runners), foldJob(other, new Map([...runners].toReversed()))];
        assert.deepEqual(a, b);
        assert.deepEqual(nodesInDoubt(state), nodesInDoubt(other));
      },
    ),
    RUNS,
  );
});

test("each step counts once under its status; the job has started once a step is not pending", () => {
  fc.assert(
    fc.property(jobs, ({ state, runners }) => {
      const { tasks, counts, started } = foldJob(state, runners);
      const statuses = tasks.flatMap((task) => task.steps.map((step) => step.status));
      const { total, ...byStatus } = counts;
      assert.equal(total, state.record.tasks.flatMap((task) => task.steps).length);
      assert.equal(
        Object.values(byStatus).reduce((sum, n) => sum + n),
        total,
      );
      for (const [status, n] of Object.entries(byStatus))
        assert.equal(n, statuses.filter((each) => each === status).length);
      assert.equal(
        started,
        statuses.some((status) => status !== "pending"),
      );
    }),
    RUNS,
  );
});

test("there is a verdict exactly if no step is pending or running, whatever outcomes are seen", () => {
  fc.assert(
    fc.property(jobs, ({ state, runners }) => {
      const { tasks, verdict } = foldJob(state, runners);
      const open = tasks.some((task) => task.steps.some(({ status }) => status === "pending" || status === "running"));
      assert.equal(verdict === null, open);
      assert.equal(
        open,
        tasks.some((task) => !hasEnded(task.status)),
      );
    }),
    RUNS,
  );
});

test("once all outcomes exist, they alone decide the verdict: not the marks, the clock or the nodes", () => {
  fc.assert(
    fc.property(jobs, jobs, (a, b) => {
      const { state, statuses } = withAll(a.state);
      const { counts, verdict, tasks } = foldJob(state, a.runners);
      const good = statuses.filter((status) => status === "succeeded").length;
      const partly = good === 0 ? "failed" : "partial";
      const bySteps = good === statuses.length ? "succeeded" : partly;
      assert.equal(verdict, statuses.includes("cancelled") ? "cancelled" : bySteps);
      const elsewhere = foldJob({ ...state, marks: b.state.marks, nowMs: b.state.nowMs }, b.runners);
      assert.deepEqual(elsewhere, { counts, verdict, tasks, started: true });
    }),
    RUNS,
  );
});

test("an outcome never changes, whatever is seen later", () => {
  fc.assert(
    fc.property(jobs, jobs, ({ state, runners }, later) => {
      const folded = foldJob({ ...state, marks: later.state.marks, nowMs: later.state.nowMs }, later.runners);
      for (const job of [folded, foldJob(state, runners)])
        for (const { task, steps } of job.tasks)
          for (const [index, { status, outcome, error }] of steps.entries()) {
            const told = state.outcomes.steps.get(outcomeKey(task, index));
            assert.equal(outcome, told ?? null);
            if (told !== undefined) assert.deepEqual([status, error], [told.status, told.error]);
          }
    }),
  );
});

test("a step that nobody took up and that was cancelled, expired or refused has ended, and stays ended", () => {
  fc.assert(
    fc.property(jobs, jobs, ({ state, runners }, other) => {
      const before = foldJob(state, runners);
      const later = foldJob({ ...state, nowMs: state.nowMs + other.state.nowMs }, other.runners);
      for (const [t, { task, steps }] of before.tasks.entries()) {
        const claimed = state.outcomes.claims.some((each) => each.task === task.id);
        for (const [s, { status, outcome }] of steps.entries()) {
          if (claimed || outcome !== null) continue;
          const overdue = state.nowMs >= state.record.deadlineAtMs;
          const cancelled = state.marks.cancelledAtMs !== null;
          const late = cancelled ? "cancelled" : overdue ? "expired" : null;
          const expected = task.refused === null ? late : "failed";
          if (expected === null) continue;
          assert.equal(status, expected);
          assert.equal(later.tasks[t]?.steps[s]?.status, expected);
        }
      }
    }),
    RUNS,
  );
});

test("a closed job reads the same for ever, whatever happens to its nodes and the clock", () => {
  fc.assert(
    fc.property(jobs, jobs, ({ state, runners }, other) => {
      const before = foldJob(state, runners);
      fc.pre(before.verdict !== null);
      const marks = { ...state.marks, closed: { status: before.verdict ?? "failed", atMs: state.nowMs } };
      const later = foldJob({ ...state, marks, nowMs: state.nowMs + other.state.nowMs }, other.runners);
      assert.deepEqual([later.counts, later.verdict], [before.counts, before.verdict]);
      for (const [t, { steps }] of before.tasks.entries())
        for (const [s, { status, error }] of steps.entries()) {
          const step = later.tasks[t]?.steps[s];
          assert.equal(step?.status, status);
          assert.equal(step?.error === null, error === null);
        }
    }),
    RUNS,
  );
});

for (const [said, over, runner, status, code, verdict] of [
  ["taken up", { claimed: true }, "alive", "running", null, null],
  ["taken up by a suspect node", { claimed: true }, "suspect", "running", null, null],
  ["taken up by a node that died", { claimed: true }, "dead", "unknown", "node_dead", "failed"],
  ["taken up, then the node left", { claimed: true }, "left", "running", null, null],
  ["taken up, left, overdue", { claimed: true, nowMs: 1000 }, "left", "unknown", "node_left", "failed"],
  ["taken up, overdue", { claimed: true, nowMs: 1000 }, "alive", "running", null, null],
  ["taken up, cancelled", { claimed: true, cancelledAtMs: 1 }, "alive", "running", null, null],
  ["taken up by a Master, the node dead", { claimed: true, runs: "master" }, "dead", "running", null, null],
  ["taken up in an older attempt only", { claimed: true, attempt: 2 }, "alive", "running", null, null],
  ["taken up in an older attempt, overdue", { claimed: true, attempt: 2, nowMs: 1000 }, "alive", "running", null, null],
  [
    "taken up in an older attempt, cancelled",
    { claimed: true, attempt: 2, cancelledAtMs: 1 },
    "alive",
    "running",
    null,
    null,
  ],
  [
    "taken up in an older attempt, the node dead",
    { claimed: true, attempt: 2 },
    "dead",
    "unknown",
    "node_dead",
    "failed",
  ],
  [
    "answered in an older attempt",
    { claimed: true, attempt: 2, outcome: outcomeOf("failed") },
    "alive",
    "running",
    null,
    null,
  ],
  ["waiting until the deadline", { nowMs: 999 }, "alive", "pending", null, null],
  ["waiting for a suspect node", {}, "suspect", "pending", null, null],
  ["waiting, the node died", {}, "dead", "failed", "node_dead", "failed"],
  ["waiting, the node left", {}, "left", "failed", "node_left", "failed"],
  ["waiting on purpose, the node dead", { waitForNode: true }, "dead", "pending", null, null],
  ["waiting on purpose, overdue", { waitForNode: true, nowMs: 1000 }, "dead", "expired", "expired", "expired"],
  ["waiting for a Master, the node dead", { runs: "master" }, "dead", "pending", null, null],
  ["overdue", { nowMs: 1000 }, "alive", "expired", "expired", "expired"],
  ["cancelled", { cancelledAtMs: 1 }, "alive", "cancelled", "cancelled", "cancelled"],
  ["cancelled, overdue", { cancelledAtMs: 1, nowMs: 2000 }, "dead", "cancelled", "cancelled", "cancelled"],
  ["refused and cancelled", { refused: "node_left", cancelledAtMs: 1 }, "alive", "failed", "node_left", "failed"],
] as const) {
  test(`one task, ${said}: ${status}`, () => {
    const folded = foldJob(stateOf(over), runnersOf({ n1: runner }));
    const [task] = folded.tasks;
    assert.deepEqual([task?.status, task?.steps[0]?.status, folded.verdict], [status, status, verdict]);
    assert.equal(task?.steps[0]?.error?.code ?? null, code);
  });
}

test("an unknown node counts as alive, and is in doubt while an outcome is missing", () => {
  assert.equal(foldJob(stateOf({ claimed: true }), new Map()).tasks[0]?.status, "running");
  assert.deepEqual(nodesInDoubt(stateOf({})), ["n1"]);
  assert.deepEqual(nodesInDoubt(stateOf({ refused: "node_dead" })), []);
  assert.deepEqual(nodesInDoubt(stateOf({ runs: "master" })), []);
  assert.deepEqual(nodesInDoubt(stateOf({ outcome: outcomeOf("failed") })), []);
  assert.deepEqual(nodesInDoubt(stateOf({ outcome: outcomeOf("failed"), attempt: 2 })), ["n1"]);
});

test("a task that was claimed, and not applied because another leader had been elected, waits as if nobody had claimed it", () => {
  const statusOf = (over: Parameters<typeof stateOf>[0]) => {
    const [step] = foldJob(stateOf({ stale: true, ...over }), runnersOf({ n1: "alive" })).tasks[0]?.steps ?? [];
    return [step?.status, step?.error?.code];
  };
  assert.deepEqual(statusOf({}), ["pending", "stale_leader"]);
  assert.deepEqual(statusOf({ attempt: 2 }), ["pending", undefined], "the next attempt was sent");
  assert.deepEqual(statusOf({ cancelledAtMs: 5 }), ["cancelled", "cancelled"]);
  assert.deepEqual(statusOf({ nowMs: 1000 }), ["expired", "expired"]);
  assert.deepEqual(
    statusOf({ claimed: true, cancelledAtMs: 5 }),
    ["running", undefined],
    "another life has claimed it",
  );
});
