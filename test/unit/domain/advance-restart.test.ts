import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import type { Chain } from "../../../src/domain/job/job.ts";
import type { SimulatedCluster } from "./simulated-cluster.ts";
import { calm, faults, runToEnd, scenarios } from "./simulated-jobs.ts";

const chainsOf = ({ orchestration }: SimulatedCluster): readonly Chain[] => orchestration.chains;

/** A wave's size, told by its plan. */
function batchOf(cluster: SimulatedCluster): number {
  const inWave = Map.groupBy(chainsOf(cluster), ({ wave }) => wave);
  return Math.max(0, ...[...inWave.values()].map((chains) => chains.length));
}

/** What it has taken down, or may yet, and what has not been seen green since. */
const atRisk = (cluster: SimulatedCluster): Chain[] =>
  chainsOf(cluster).filter(
    ({ ref, status }) => ref !== null && status !== "succeeded" && cluster.mayHaveBegun(ref.slice(0, ref.indexOf("."))),
  );

/** What it has restarted and is not green, on nodes that have been there all the time. */
const notGreen = (cluster: SimulatedCluster): string[] =>
  [...cluster.nodes.values()]
    .filter(({ alive, incarnation }) => alive && incarnation === 1)
    .flatMap((node) => [...node.told(cluster.nowMs)])
    .flatMap(([id, { revision, health }]) => (revision.startsWith("100.") && health !== "green" ? [id] : []));

test("a restart of a group never has more at risk than its batch, whatever happens", () => {
  fc.assert(
    fc.property(scenarios("group.restart", faults), (scenario) => {
      let batch: number | null = null;
      runToEnd(scenario, (cluster) => {
        batch ??= batchOf(cluster);
        assert.ok(atRisk(cluster).length <= batch);
        assert.ok(notGreen(cluster).length <= batch);
      });
    }),
    { numRuns: 500 },
  );
});

test("a batch begins when the one before it has come up green; one that does not stops the rest", () => {
  fc.assert(
    fc.property(scenarios("group.restart", faults), (scenario) => {
      const cluster = runToEnd(scenario, (at) => {
        const waves = Map.groupBy(chainsOf(at), ({ wave }) => wave);
        for (const chain of chainsOf(at)) {
          if (chain.ref === null || chain.wave === 0) continue;
          for (const { status } of waves.get(chain.wave - 1) ?? []) assert.equal(status, "succeeded");
        }
      });
      const firstBad = Math.min(
        ...chainsOf(cluster).flatMap(({ wave, status }) => (status === "succeeded" ? [] : [wave])),
      );
      for (const { wave, ref, status } of chainsOf(cluster))
        if (wave > firstBad) assert.deepEqual([ref, status === "succeeded"], [null, false]);
    }),
    { numRuns: 500 },
  );
});

test("where all come up, all are restarted once; the end is the same in whatever order", () => {
  fc.assert(
    fc.property(scenarios("group.restart", calm, false), (scenario) => {
      const cluster = runToEnd(scenario);
      assert.equal(cluster.marks.closed?.status, "succeeded");
      assert.equal(chainsOf(cluster).length, scenario.layout.stitches.length);
      for (const { health, revision } of cluster.told().values()) {
        assert.equal(health, "green");
        assert.match(revision, /^100\./);
      }
    }),
    { numRuns: 200 },
  );
});

test("what does not come up green in its time is what the job failed by", () => {
  fc.assert(
    fc.property(scenarios("group.restart", calm), (scenario) => {
      const { tempers = {}, stitches } = scenario.layout;
      const isBad = (id: string) => tempers[id] === "never" || tempers[id] === "fails";
      const cluster = runToEnd(scenario);
      const bad = chainsOf(cluster).filter(({ status }) => status === "failed");
      for (const { stitch, error } of bad)
        assert.equal(error?.code, tempers[stitch ?? ""] === "fails" ? "exited_early" : "unhealthy");
      assert.equal(bad.length > 0, stitches.some(isBad));
      assert.equal(cluster.marks.closed?.status === "succeeded", bad.length === 0);
    }),
    { numRuns: 300 },
  );
});
