import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { advance } from "../../../src/domain/job/advance.ts";
import { foldJob } from "../../../src/domain/job/fold.ts";
import type { SimulatedCluster } from "./simulated-cluster.ts";
import { anything, calm, JOB_NAMES, runToEnd, scenarios } from "./simulated-jobs.ts";

const RUNS = { numRuns: 300 };

/** After a job has ended, nothing of it is open, and nothing of it begins any more. */
function nothingIsOpen(cluster: SimulatedCluster): void {
  assert.deepEqual(
    cluster.orchestration.chains.filter(({ phase }) => phase !== "ended"),
    [],
  );
  for (const { status, error } of cluster.orchestration.chains) {
    assert.notEqual(status, null);
    assert.equal(error === null, status === "succeeded");
  }
  assert.equal(cluster.fold().counts.pending, 0);
  assert.equal(cluster.fold().counts.running, 0);
  assert.deepEqual(cluster.claimable(), []);
}

for (const name of JOB_NAMES) {
  test(`${name} ends, whatever happens and in whatever order; then none of its steps is open`, () => {
    fc.assert(
      fc.property(scenarios(name, anything), (scenario) => {
        const cluster = runToEnd(scenario, (at) => {
          // After the save that ends the job, nobody may begin a step, even before the job is marked as closed.
          if (at.orchestration.ended !== null) assert.deepEqual([at.claimable(), at.fold().counts.pending], [[], 0]);
        });
        nothingIsOpen(cluster);
      }),
      RUNS,
    );
  });

  test(`${name}: advance answers the same for the same state, and adds nothing to its own answer`, () => {
    fc.assert(
      fc.property(scenarios(name, anything), (scenario) => {
        runToEnd(scenario, (at) => {
          const { state, advanced } = at.load();
          assert.deepEqual(at.load().advanced, advanced);
          if (advanced.record === state.record) return assert.deepEqual([advanced.tasks, advanced.givenUp], [[], []]);
          const next = { ...state, record: advanced.record };
          const again = advance(next, foldJob(next, new Map()), {
            nowMs: state.nowMs,
            health: at.health(),
            drain: null,
            well: at.well(),
          });
          assert.equal(again.record, next.record);
          assert.deepEqual([again.tasks, again.givenUp], [[], []]);
        });
      }),
      { numRuns: 100 },
    );
  });
}

/** What is left at the end, without the numbers of its saves. */
function endOf(cluster: SimulatedCluster) {
  // Stitches that come up late are up by then.
  cluster.do({ act: "long wait", pick: 0 });
  const { chains } = cluster.orchestration;
  return {
    status: cluster.marks.closed?.status,
    // If two steps fail at once, the one that was seen first is named as the reason.
    chains: chains.map(({ stitch, wave, at, status, error }) => [stitch, wave, at, status, error?.code]),
    stitches: [...cluster.told()]
      .map(([id, { desired, state, health, movedFrom }]) => [id, desired, state, health, movedFrom].join())
      .sort(),
    nodes: [...cluster.nodes.values()].map(({ eligibility }) => eligibility),
  };
}

for (const name of JOB_NAMES) {
  // How often a drain retries what does not come up depends on time.
  test(`${name}: while no node or Master fails, the end is the same in whatever order things happen`, () => {
    const twice = fc.tuple(scenarios(name, calm, name !== "node.drain"), calm, fc.nat(20));
    fc.assert(
      fc.property(twice, ([scenario, turns, order]) => {
        const a = runToEnd(scenario);
        const b = runToEnd({ ...scenario, turns }, () => undefined, order);
        assert.deepEqual(endOf(a), endOf(b));
      }),
      RUNS,
    );
  });
}

for (const name of JOB_NAMES) {
  if (name === "node.drain") continue;
  test(`${name} succeeds only if each of its steps that count has succeeded`, () => {
    fc.assert(
      fc.property(scenarios(name, anything), (scenario) => {
        const cluster = runToEnd(scenario);
        const { counts } = cluster.fold();
        if (cluster.marks.closed?.status === "succeeded") assert.equal(counts.succeeded, counts.total);
      }),
      RUNS,
    );
  });
}
