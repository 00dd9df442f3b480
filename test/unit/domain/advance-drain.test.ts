import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { SimulatedCluster } from "./simulated-cluster.ts";
import { calm, FAULTS, runToEnd, scenarios, turnsOf } from "./simulated-jobs.ts";

const TARGET = "n1";
const withUncordon = turnsOf([...FAULTS, "user", "uncordon"]);

const AT_REST: readonly string[] = ["stopped", "failed"];
const atWork = (cluster: SimulatedCluster): string[] =>
  [...(cluster.nodes.get(TARGET)?.told(cluster.nowMs) ?? [])].flatMap(([id, { state }]) =>
    AT_REST.includes(state) ? [] : [id],
  );
const begun = ({ orchestration }: SimulatedCluster) =>
  orchestration.chains.flatMap(({ stitch, ref }) => (stitch === null || ref === null ? [] : [stitch]));
const eligibility = (cluster: SimulatedCluster) => cluster.nodes.get(TARGET)?.eligibility;

test("a drain that succeeds leaves nothing at work on its node; one that does not was cancelled, expired or ended by an uncordon", () => {
  fc.assert(
    fc.property(scenarios("node.drain", withUncordon), (scenario) => {
      let isEmpty = false;
      const cluster = runToEnd(scenario, (at) => {
        // From then on the node takes no more, though users may start again what stopped there.
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

test("when it has ended, the node is cordoned; eligible where somebody has uncordoned it meanwhile", () => {
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

test("an uncordon ends it: what is under way goes on to its end, nothing else is begun", () => {
  fc.assert(
    fc.property(scenarios("node.drain", calm), ({ layout, command, turns }) => {
      const cluster = new SimulatedCluster(layout, command);
      for (const turn of turns) cluster.do(turn);
      const before = begun(cluster);
      cluster.do({ act: "uncordon", pick: 0 });
      cluster.finish();
      assert.deepEqual(begun(cluster), before);
      assert.equal(eligibility(cluster), "eligible");
      // Where all was done already but the last mark, it has succeeded.
      if (atWork(cluster).length > 0) assert.notEqual(cluster.marks.closed?.status, "succeeded");
    }),
    { numRuns: 300 },
  );
});

test("what no other node takes is stopped when it is time to force; its record says it is to be stopped", () => {
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
