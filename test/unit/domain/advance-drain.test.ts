import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import type { JobRecord } from "../../../src/domain/job/job.ts";
import { checked } from "./observed.ts";
import { ACTS, DEADLINE_MS, SimulatedCluster, TIMEOUT_MS } from "./simulated-cluster.ts";
import { anything, calm, FAULTS, runToEnd, scenarios, turnsOf } from "./simulated-jobs.ts";

const TARGET = "n1";
const FORCE_MS = 10_000;
const withUncordon = turnsOf([...FAULTS, "user", "uncordon"]);

const AT_REST: readonly string[] = ["stopped", "failed"];
const atWork = (cluster: SimulatedCluster): string[] =>
  [...(cluster.nodes.get(TARGET)?.told(cluster.nowMs) ?? [])].flatMap(([id, { state }]) =>
    AT_REST.includes(state) ? [] : [id],
  );
const begun = ({ orchestration }: SimulatedCluster) =>
  orchestration.chains.flatMap(({ stitch, ref }) => (stitch === null || ref === null ? [] : [stitch]));
const forceAtMs = ({ orchestration }: SimulatedCluster): number => orchestration.forceAtMs ?? Number.NaN;
const movesBegun = ({ orchestration }: JobRecord) =>
  (orchestration?.chains ?? []).filter(
    ({ links, phase, ref }) => links.length > 1 && (phase === "running" || phase === "undoing" || ref !== null),
  ).length;
/** Masters and nodes do everything that they can do now; no time passes. */
function round(cluster: SimulatedCluster): void {
  cluster.sweep();
  for (let act = 0; cluster.do({ act: "deliver", pick: 1 + 3 * act }); act++);
  while (cluster.do({ act: "work", pick: 0 }));
}
const eligibility = (cluster: SimulatedCluster) => cluster.nodes.get(TARGET)?.eligibility;

test("a drain leaves nothing at work on its node, or it was cancelled, expired or ended by an uncordon", () => {
  fc.assert(
    fc.property(scenarios("node.drain", withUncordon), (scenario) => {
      let isEmpty = false;
      const cluster = runToEnd(scenario, (at) => {
        // After that, the node takes no new stitches, but users may start again what stopped there.
        isEmpty ||= atWork(at).length === 0;
      });
      const { closed, cancelledAtMs } = cluster.marks;
      if (closed?.status === "succeeded") return assert.ok(isEmpty);
      const isUncordoned = scenario.turns.some(({ act }) => act === "uncordon");
      const isOver = closed !== null && closed.atMs >= cluster.record.deadlineAtMs;
      assert.ok(cancelledAtMs !== null || isUncordoned || isOver, closed?.status);
    }),
    { numRuns: 500 },
  );
});

test("after a drain the node is cordoned, or eligible if somebody has uncordoned it meanwhile", () => {
  fc.assert(
    fc.property(scenarios("node.drain", withUncordon), (scenario) => {
      const cluster = runToEnd(scenario);
      const [first] = cluster.orchestration.chains;
      if (scenario.turns.some(({ act }) => act === "uncordon")) assert.equal(eligibility(cluster), "eligible");
      else assert.equal(eligibility(cluster), first?.status === "succeeded" ? "cordoned" : "eligible");
    }),
    { numRuns: 300 },
  );
});

test("an uncordon ends a drain: what is under way completes, nothing else begins", () => {
  fc.assert(
    fc.property(scenarios("node.drain", calm), ({ layout, command, turns }) => {
      const cluster = new SimulatedCluster(layout, command);
      for (const turn of turns) cluster.do(turn);
      const before = begun(cluster);
      cluster.do({ act: "uncordon", pick: 0 });
      cluster.finish();
      assert.deepEqual(begun(cluster), before);
      assert.equal(eligibility(cluster), "eligible");
      // If everything except the last mark was done already, the drain has succeeded.
      if (atWork(cluster).length > 0) assert.notEqual(cluster.marks.closed?.status, "succeeded");
    }),
    { numRuns: 300 },
  );
});

test("a drain that forces stops what no other node takes, and its record says that it should be stopped", () => {
  fc.assert(
    fc.property(scenarios("node.drain", calm, false), (scenario) => {
      const layout = { ...scenario.layout, nodes: { n1: ["a"] } };
      const stitches = layout.stitches.map((id) => id.replace(/^n\d/, "n1"));
      const cluster = runToEnd({ ...scenario, layout: { ...layout, stitches } });
      assert.equal(cluster.marks.closed?.status, "succeeded");
      const told = [...cluster.told().values()];
      assert.equal(told.length, stitches.length);
      for (const { state, desired } of told) assert.deepEqual([state, desired], ["stopped", "stopped"]);
    }),
    { numRuns: 100 },
  );
});

test("once a drain forces, no move begins, whatever has happened before", () => {
  fc.assert(
    fc.property(scenarios("node.drain", anything), (scenario) => {
      runToEnd(scenario, (at) => {
        if (at.nowMs < forceAtMs(at)) return;
        const { state, advanced } = at.load();
        assert.equal(movesBegun(advanced.record), movesBegun(state.record));
      });
    }),
    { numRuns: 300 },
  );
});

const timeStands = turnsOf(ACTS.filter((act) => act !== "wait"));

test("once a drain forces, nothing stays at work on a node that answers, however long moves take; it succeeds", () => {
  fc.assert(
    fc.property(scenarios("node.drain", timeStands), ({ layout, turns }) => {
      const cluster = new SimulatedCluster(
        layout,
        checked("node.drain", {
          target: TARGET,
          timeoutMs: TIMEOUT_MS,
          deadlineMs: DEADLINE_MS,
          forceAfterMs: FORCE_MS,
        }),
      );
      for (const turn of turns) cluster.do(turn);
      while (cluster.do({ act: "come back", pick: 0 }));
      cluster.nowMs = forceAtMs(cluster);
      // The mark, the stops, and the removes that moves had begun.
      for (let each = 0; each < 4; each++) round(cluster);
      assert.deepEqual(atWork(cluster), []);
      cluster.finish();
      assert.equal(cluster.marks.closed?.status, "succeeded");
    }),
    { numRuns: 500 },
  );
});

const MANY = Array.from({ length: 25 }, (_, index) => `n1:s${index}`);
/**
 * A drain of three waves. One stitch of the first wave never turns green on its new node. The drain waits for it until
 * after it forces.
 */
function heldUp(): SimulatedCluster {
  const command = { target: TARGET, timeoutMs: 15_000, deadlineMs: DEADLINE_MS, forceAfterMs: FORCE_MS };
  const cluster = new SimulatedCluster(
    { nodes: { n1: [], n2: [] }, stitches: MANY, tempers: { "n2:s0": "never" } },
    checked("node.drain", command),
  );
  for (let each = 0; each < 5; each++) round(cluster);
  assert.equal(atWork(cluster).length, MANY.length - 9, "nine of the first ten have moved");
  return cluster;
}

test("a slow move delays no stop: the drain wakes in time, ends what waits and stops what is there", () => {
  const cluster = heldUp();
  cluster.nowMs = forceAtMs(cluster) - 100;
  round(cluster);
  assert.equal(cluster.load().advanced.wakeAtMs, forceAtMs(cluster));
  assert.equal(atWork(cluster).length, MANY.length - 9);
  cluster.nowMs = forceAtMs(cluster);
  round(cluster);
  assert.deepEqual(atWork(cluster), []);
  const waited = cluster.orchestration.chains.filter(({ status }) => status === "cancelled");
  assert.equal(waited.length, MANY.length - 10);
  assert.ok(waited.every(({ ref, error }) => ref === null && error?.message.startsWith("the drain forces")));
  const under = cluster.orchestration.chains.filter(({ phase }) => phase === "running");
  assert.deepEqual(
    under.filter(({ links }) => links.length > 1).map(({ stitch }) => stitch),
    ["n1:s0"],
  );
});

for (const home of ["n1:s0", "n2:s0"]) {
  test(`a move that is under way when its drain forces goes on, and leaves one stitch: ${home}`, () => {
    const cluster = heldUp();
    cluster.nowMs = forceAtMs(cluster);
    round(cluster);
    const old = cluster.told().get("n1:s0");
    assert.deepEqual([old?.state, old?.desired], ["stopped", "stopped"]);
    const arriving = cluster.nodes.get("n2")?.stitches.get("s0");
    if (home === "n2:s0" && arriving !== undefined) arriving.greenAtMs = cluster.nowMs + 500;
    cluster.finish();
    assert.deepEqual(cluster.homesOf("s0"), [home]);
    assert.deepEqual([cluster.marks.closed?.status, eligibility(cluster)], ["succeeded", "cordoned"]);
  });
}

for (const over of ["cancel", "uncordon"] as const) {
  test(`a drain that is over before it forces stops nothing apart from its moves (${over})`, () => {
    const cluster = heldUp();
    cluster.do({ act: over, pick: 0 });
    cluster.nowMs = forceAtMs(cluster);
    for (let each = 0; each < 5; each++) round(cluster);
    assert.equal(atWork(cluster).length, MANY.length - 9);
    cluster.finish();
    assert.equal(cluster.marks.closed?.status, "cancelled");
  });
}

test("a node that is away when its drain forces stops its stitches when it is back", () => {
  const command = { target: TARGET, timeoutMs: TIMEOUT_MS, deadlineMs: DEADLINE_MS, forceAfterMs: FORCE_MS };
  const cluster = new SimulatedCluster(
    { nodes: { n1: [] }, stitches: ["n1:s1", "n1:s2"] },
    checked("node.drain", command),
  );
  cluster.do({ act: "die", pick: 0 });
  cluster.nowMs = forceAtMs(cluster);
  for (let each = 0; each < 5; each++) round(cluster);
  cluster.do({ act: "come back", pick: 0 });
  cluster.finish();
  assert.deepEqual([atWork(cluster), cluster.marks.closed?.status], [[], "succeeded"]);
});

test("a drain has one step per stitch in a wave: it does not also stop what a move has begun to remove", () => {
  fc.assert(
    fc.property(scenarios("node.drain", anything), (scenario) => {
      const cluster = runToEnd(scenario);
      const steps = cluster.record.tasks.flatMap(({ wave, steps: each }) =>
        each.map(({ stitch }) => `${wave} ${stitch ?? ""}`),
      );
      assert.equal(new Set(steps).size, steps.length);
    }),
    { numRuns: 300 },
  );
});
