import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import type { Chain } from "../../../src/domain/job/job.ts";
import type { SimulatedCluster } from "./simulated-cluster.ts";
import { calm, faults, runToEnd, scenarios } from "./simulated-jobs.ts";

const chainsOf = ({ orchestration }: SimulatedCluster): readonly Chain[] => orchestration.chains;

/** The size of the waves, according to the plan. */
function batchOf(cluster: SimulatedCluster): number {
  const inWave = Map.groupBy(chainsOf(cluster), ({ wave }) => wave);
  return Math.max(0, ...[...inWave.values()].map((chains) => chains.length));
}

/** Chains that have taken their stitch down, or may yet, and have not seen it green since. */
const atRisk = (cluster: SimulatedCluster): Chain[] =>
  chainsOf(cluster).filter(
    ({ ref, status }) => ref !== null && status !== "succeeded" && cluster.mayHaveBegun(ref.slice(0, ref.indexOf("."))),
  );

/** The stitches that the job has restarted and that are not green, on nodes that have been alive all the time. */
const notGreen = (cluster: SimulatedCluster): string[] =>
  [...cluster.nodes.values()]
    .filter(({ alive, incarnation }) => alive && incarnation === 1)
    .flatMap((node) => [...node.told(cluster.nowMs)])
    .flatMap(([id, { revision, health }]) => (revision.startsWith("100.") && health !== "green" ? [id] : []));

test("a group restart never has more stitches at risk than its batch, whatever happens", () => {
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

test("a batch begins when the one before it is green; a batch that does not turn green stops the rest", () => {
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

test("if all come up, each stitch is restarted once, in whatever order things happen", () => {
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

test("a stitch that does not turn green in time fails the job, with exited_early or unhealthy", () => {
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
