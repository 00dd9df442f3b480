import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { splitFullId } from "../../../src/domain/names/ids.ts";
import { checked } from "./observed.ts";
import { type Layout, SimulatedCluster } from "./simulated-cluster.ts";
import { anything, calm, runToEnd, type Scenario, scenarios } from "./simulated-jobs.ts";

const NEWER = "shop.orders.2";

/** Counted independently, from what live nodes report at this moment. */
function wellFor(cluster: SimulatedCluster, ms: number): number {
  return [...cluster.told()].filter(([id, { group, desired, health, healthySinceMs }]) => {
    const isHere = cluster.nodes.get(splitFullId(id).node)?.alive === true;
    const isWell = health === "green" && healthySinceMs !== null && cluster.nowMs - healthySinceMs >= ms;
    return group === NEWER && isHere && desired === "running" && isWell;
  }).length;
}

const olderIn = ({ stitches, groups = {} }: Layout): string[] => stitches.filter((id) => groups[id] === undefined);
const optionsOf = ({ command }: Scenario) =>
  command.command === "group.stopOldVersions" ? command : assert.fail(command.command);
const isBegun = ({ orchestration }: SimulatedCluster): boolean => orchestration.chains.some(({ ref }) => ref !== null);

test("older versions stop only once as many stitches of the new one are healthy as there are old ones", () => {
  fc.assert(
    fc.property(scenarios("group.stopOldVersions", anything), (scenario) => {
      const { minHealthyMs = 0, force } = optionsOf(scenario);
      const older = olderIn(scenario.layout).length;
      let mayBegin = force || older === 0;
      runToEnd(scenario, (cluster) => {
        mayBegin ||= wellFor(cluster, minHealthyMs) >= older;
        assert.ok(mayBegin || !isBegun(cluster));
        if (!isBegun(cluster) && wellFor(cluster, minHealthyMs) < older && !force)
          assert.deepEqual(cluster.load().advanced.tasks, []);
      });
    }),
    { numRuns: 500 },
  );
});

test("if the new version is not healthy in time, the job fails as unhealthy and stops nothing", () => {
  fc.assert(
    fc.property(scenarios("group.stopOldVersions", calm), (scenario) => {
      let canBegin = optionsOf(scenario).force;
      const older = olderIn(scenario.layout);
      const cluster = runToEnd(scenario, (at) => {
        canBegin ||= at.load().advanced.tasks.length > 0 || isBegun(at);
      });
      const states = older.map((id) => cluster.told().get(id)?.state);
      if (older.length === 0 || canBegin) {
        assert.equal(cluster.marks.closed?.status, "succeeded");
        assert.ok(states.every((state) => state === "stopped"));
        return;
      }
      assert.equal(cluster.marks.closed?.status, "failed");
      assert.ok(cluster.orchestration.chains.every(({ error, ref }) => error?.code === "unhealthy" && ref === null));
      assert.ok(states.every((state) => state === "running"));
    }),
    { numRuns: 300 },
  );
});

const TWO: Layout = { nodes: { n1: [] }, stitches: ["n1:old", "n1:new"], groups: { "n1:new": NEWER } };
const stopOld = (greenAtMs: number, more: object = {}) =>
  new SimulatedCluster(
    { ...TWO, greenAtMs: { "n1:new": greenAtMs } },
    checked("group.stopOldVersions", { target: NEWER, minHealthyMs: 3000, timeoutMs: 10_000, ...more }),
  );

test("waits until the new version has been healthy for minHealthyMs, and looks again without a hint", () => {
  const cluster = stopOld(2000);
  for (const nowMs of [1000, 2000, 4999]) {
    cluster.nowMs = nowMs;
    const { advanced, state } = cluster.load();
    assert.equal(advanced.record, state.record);
    assert.ok(advanced.wakeAtMs !== null && advanced.wakeAtMs > nowMs && advanced.wakeAtMs <= nowMs + 500);
  }
  cluster.nowMs = 5000;
  assert.equal(cluster.load().advanced.tasks.length, 1);
});

test("a cancel during the wait stops nothing", () => {
  const cluster = stopOld(2000);
  cluster.do({ act: "cancel", pick: 0 });
  cluster.finish();
  assert.deepEqual([cluster.marks.closed?.status, cluster.told().get("n1:old")?.state], ["cancelled", "running"]);
});
