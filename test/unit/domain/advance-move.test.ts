import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import type { Chain } from "../../../src/domain/job/job.ts";
import { splitFullId } from "../../../src/domain/names/ids.ts";
import type { SimulatedCluster } from "./simulated-cluster.ts";
import { anything, calm, faults, runToEnd, scenarios } from "./simulated-jobs.ts";

const MOVES = ["stitch.move", "group.rebalance", "node.drain"] as const;
const RUNS = { numRuns: 1000 };

const movesOf = ({ orchestration }: SimulatedCluster): Chain[] =>
  orchestration.chains.filter(({ links }) => links.length === 3);

/** Where an ended chain leaves its stitch: at the new home once the old stitch is gone. */
function homeAfter({ stitch, status, at, links }: Chain): string | null {
  const isMoved = status === "succeeded" || links[at]?.step.action === "settle";
  return isMoved ? (links[0]?.step.stitch ?? null) : stitch;
}

for (const name of MOVES) {
  test(`${name} neither loses nor doubles a stitch: it is where it was, or where it went`, () => {
    fc.assert(
      fc.property(scenarios(name, faults), (scenario) => {
        const bare = scenario.layout.stitches.map((id) => splitFullId(id).stitch);
        const cluster = runToEnd(scenario, (at) => {
          for (const id of bare) assert.notDeepEqual(at.homesOf(id), [], id);
        });
        for (const id of bare) assert.equal(cluster.homesOf(id).length, 1, `${id} is at ${cluster.homesOf(id).join()}`);
        // If a drain tried a move several times, the last try counts.
        const last = new Map(movesOf(cluster).map((chain) => [chain.stitch, chain]));
        for (const [from, chain] of last)
          assert.deepEqual(cluster.homesOf(splitFullId(from ?? "").stitch), [homeAfter(chain)]);
      }),
      RUNS,
    );
  });

  test(`${name} neither loses nor doubles a stitch, nor brings a removed one back, whatever users command meanwhile`, () => {
    fc.assert(
      fc.property(scenarios(name, anything), (scenario) => {
        const bare = scenario.layout.stitches.map((id) => splitFullId(id).stitch);
        const cluster = runToEnd(scenario, (at) => {
          for (const id of bare) if (!at.removedByUser.has(id)) assert.notDeepEqual(at.homesOf(id), [], id);
        });
        for (const id of bare) {
          const homes = cluster.homesOf(id);
          assert.ok(homes.length <= (cluster.removedForGood.has(id) ? 0 : 1), `${id} is at ${homes.join(" and ")}`);
          if (!cluster.removedByUser.has(id)) assert.equal(homes.length, 1, id);
        }
      }),
      RUNS,
    );
  });

  test(`${name}: if nothing fails, every stitch is moved, and no trace of a move is left`, () => {
    fc.assert(
      fc.property(scenarios(name, calm, false), (scenario) => {
        const cluster = runToEnd(scenario);
        assert.equal(cluster.marks.closed?.status, "succeeded");
        for (const { movedFrom } of cluster.told().values()) assert.equal(movedFrom, null);
        for (const chain of movesOf(cluster)) {
          const { stitch } = splitFullId(chain.stitch ?? "");
          assert.deepEqual(cluster.homesOf(stitch), [chain.links[0]?.step.stitch]);
        }
      }),
      { numRuns: 200 },
    );
  });
}
