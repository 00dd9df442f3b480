import assert from "node:assert/strict";
import { test } from "node:test";
import { foldJob } from "../../../src/domain/job/fold.ts";
import type { Chain, JobRecord } from "../../../src/domain/job/job.ts";
import { moveChain, stepChain } from "../../../src/domain/job/chains.ts";
import { progressOf } from "../../../src/domain/job/progress.ts";
import { stateOf } from "./job-states.ts";
import { checked, CREATE, placed } from "./observed.ts";
import { type Act, SimulatedCluster } from "./simulated-cluster.ts";
import type { Temper } from "./simulated-node.ts";

const STITCHES = ["n1:a", "n1:b", "n2:c"];
const clusterOf = (command: ConstructorParameters<typeof SimulatedCluster>[1], tempers: Record<string, Temper> = {}) =>
  new SimulatedCluster({ nodes: { n1: [], n2: [] }, stitches: STITCHES, tempers }, command);
const after = (cluster: SimulatedCluster, ...acts: Act[]) => {
  for (const act of acts) cluster.do({ act, pick: act === "deliver" ? 1 : 0 });
  return cluster;
};
const restart = (tempers: Record<string, Temper> = {}) =>
  clusterOf(checked("group.restart", { target: CREATE.target, timeoutMs: 2000 }), tempers);
const ended = (cluster: SimulatedCluster) => {
  cluster.finish();
  return cluster;
};
const of = (cluster: SimulatedCluster) => {
  const { wave, waves, message } = progressOf(cluster.record);
  return `${wave}/${waves} ${message}`;
};
const ONE: Act[] = ["sweep", "deliver", "work", "sweep"];

for (const [said, cluster, expected] of [
  ["a restart that was accepted", restart(), "1/3 0 of 3 restarted"],
  ["with its first wave done", after(restart(), ...ONE), "2/3 1 of 3 restarted"],
  ["with all done", ended(restart()), "3/3 3 of 3 restarted"],
  ["that its first wave stopped", ended(restart({ "n1:a": "fails" })), "1/3 0 of 3 restarted"],
  ["that its second wave stopped", ended(restart({ "n1:b": "never" })), "2/3 1 of 3 restarted"],
  ["a scale up", ended(clusterOf(checked("group.scale", { target: CREATE.target, count: 5 }))), "1/1 2 of 2 created"],
  ["a scale down", ended(clusterOf(checked("group.scale", { target: CREATE.target, count: 1 }))), "1/1 2 of 2 removed"],
  [
    "a scale of nothing",
    ended(clusterOf(checked("group.scale", { target: CREATE.target, count: 3 }))),
    "1/1 0 of 0 done",
  ],
  ["a move", ended(clusterOf(checked("stitch.move", { target: "a" }))), "1/1 1 of 1 moved"],
  [
    "a move that failed",
    ended(clusterOf(checked("stitch.move", { target: "a" }), { "n2:a": "fails" })),
    "1/1 0 of 1 moved",
  ],
  ["a drain", ended(clusterOf(checked("node.drain", { target: "n1" }))), "3/3 2 of 2 moved"],
] as const) {
  test(`progress of ${said}: ${expected}`, () => {
    assert.equal(of(cluster), expected);
  });
}

const WORKED: Partial<Chain> = { phase: "ended", ref: "t0.0", status: "succeeded" };
const FAILED: Partial<Chain> = { phase: "ended", status: "failed", error: { code: "unhealthy", message: "not green" } };
const move = moveChain(placed("n1:a"), "n2", 0, { timeoutMs: 9 });
const one = stepChain({ action: "stop", stitch: "n1:a", timeoutMs: 9 }, 0, false);
const jobOf = (chain: Chain): JobRecord => ({
  ...stateOf({}).record,
  tasks: [],
  orchestration: {
    version: 1,
    chains: [chain],
    allOrStop: false,
    formerCount: null,
    forceAtMs: null,
    replacement: null,
    ended: null,
  },
});

for (const [said, chain, expected] of [
  ["that waits", one, ["n1 stop pending"]],
  ["that is under way", { ...one, phase: "running", ref: "t0.0" }, []],
  ["that is about to be sent", { ...one, phase: "running" }, ["n1 stop pending"]],
  ["that has ended", { ...one, ...WORKED }, []],
  ["that was never begun", { ...one, ...FAILED }, ["n1 stop cancelled"]],
  ["of a move that waits", move, ["n2 create pending", "n2 settle pending", "n1 remove pending"]],
  ["of a move that creates", { ...move, phase: "running", ref: "t0.0" }, ["n1 remove pending", "n2 settle pending"]],
  ["of a move that removes", { ...move, phase: "running", at: 1, ref: "t1.0" }, ["n2 settle pending"]],
  ["of a move that settles", { ...move, phase: "running", at: 2, ref: "t2.0" }, []],
  ["of a move", { ...move, ...WORKED, at: 2 }, []],
  [
    "of a move that is taken back",
    { ...move, ...FAILED, phase: "undoing", ref: "t1.0" },
    ["n1 remove cancelled", "n2 settle cancelled"],
  ],
  [
    "of a move that was taken back",
    { ...move, ...FAILED, ref: "t1.0" },
    ["n1 remove cancelled", "n2 settle cancelled"],
  ],
  ["of a move whose old one could not be removed", { ...move, ...FAILED, at: 1, ref: "t2.0" }, ["n2 settle cancelled"]],
] as const satisfies [string, Chain, string[]][]) {
  test(`steps ahead in a chain ${said}: ${expected.join(", ") || "nothing"}`, () => {
    const folded = foldJob({ ...stateOf({}), record: jobOf(chain) }, new Map());
    const shown = folded.tasks.flatMap(({ task, steps }) =>
      steps.map(({ step, status, outcome, error }) => {
        assert.deepEqual([outcome, error === null], [null, status === "pending"]);
        return `${task.node} ${step.action} ${status}`;
      }),
    );
    assert.deepEqual(shown, expected);
    const { total, pending, cancelled } = folded.counts;
    assert.deepEqual(
      [total, pending, cancelled],
      [
        expected.length,
        ...["pending", "cancelled"].map((status) => expected.filter((each) => each.endsWith(status)).length),
      ],
    );
    for (const { task } of folded.tasks) assert.equal(task.id, `ahead.${task.node}`);
    assert.equal(folded.verdict, null);
  });
}

test("a job shows each of its steps once at any moment, and why a step was not begun", () => {
  const cluster = restart({ "n1:a": "fails" });
  assert.equal(cluster.fold().counts.total, 3);
  cluster.finish(() => assert.equal(cluster.fold().counts.total, 3));
  const { counts, tasks } = cluster.fold();
  assert.deepEqual([counts.failed, counts.cancelled], [1, 2]);
  const why = tasks.flatMap(({ steps }) =>
    steps.flatMap(({ status, error }) => (status === "cancelled" ? [error?.message] : [])),
  );
  assert.deepEqual(new Set(why), new Set(["not begun: n1:a failed: it exited"]));
});
