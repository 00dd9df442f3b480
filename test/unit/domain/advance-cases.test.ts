import assert from "node:assert/strict";
import { test } from "node:test";
import { MOVES_AT_ONCE } from "../../../src/domain/planning/moves.ts";
import { checked } from "./observed.ts";
import { type Act, DEADLINE_MS, SimulatedCluster, TIMEOUT_MS } from "./simulated-cluster.ts";

const GROUP = "shop.orders.1";
const LONG = { timeoutMs: TIMEOUT_MS, deadlineMs: DEADLINE_MS };
const TWO = { n1: [], n2: [] };
const move = (more: object = {}) =>
  new SimulatedCluster({ nodes: TWO, stitches: ["n1:s1"] }, checked("stitch.move", { target: "s1", ...LONG, ...more }));
/** Does these acts, each to the first thing that it can be done to. */
const after = (cluster: SimulatedCluster, ...acts: Act[]) => {
  for (const act of acts) assert.ok(cluster.do({ act, pick: act === "deliver" ? 1 : 0 }), act);
  return cluster;
};
const CREATED: Act[] = ["sweep", "deliver", "work"];
const REMOVING: Act[] = [...CREATED, "sweep", "deliver"];

for (const over of ["cancel", "long wait"] as const) {
  test(`a move whose old node dies during its remove still completes, whatever ends the job (${over})`, () => {
    const cluster = after(move(), ...REMOVING, "die before the word", "load", "save", over);
    cluster.finish();
    assert.deepEqual(cluster.homesOf("s1"), ["n2:s1"]);
    assert.equal(cluster.marks.closed?.status, "succeeded");
  });
}

test("a cancelled move is undone if its old node dies before it takes up the remove", () => {
  const cluster = after(move(), ...CREATED, "load", "save", "die");
  assert.equal(cluster.nodes.get("n1")?.alive, false);
  after(cluster, "load", "save", "cancel");
  cluster.finish();
  assert.deepEqual([cluster.homesOf("s1"), cluster.marks.closed?.status], [["n1:s1"], "cancelled"]);
});

test("the undo of a move does not wait for a dead node, even if the move does: a Master writes a tombstone", () => {
  for (const cut of ["die in the middle", "die before the word"] as const) {
    const cluster = after(move({ waitForNode: true }), "sweep", "deliver", cut);
    cluster.finish();
    assert.deepEqual(cluster.homesOf("s1"), ["n1:s1"]);
    after(cluster, "come back");
    assert.deepEqual([...(cluster.nodes.get("n2")?.stitches.keys() ?? [])], []);
  }
});

test("a node that does not take up the undo of a move gets a tombstone a minute after the undo was sent", () => {
  const cluster = after(move(), ...CREATED, "cancel", "sweep");
  for (let wait = 0; wait < 3 && !cluster.hasEnded; wait++) after(cluster, "long wait", "sweep");
  assert.ok(cluster.hasEnded);
  assert.deepEqual(cluster.homesOf("s1"), ["n1:s1"]);
});

test("a job without a Master until long after its deadline still ends what it has begun", () => {
  const cluster = after(move(), ...CREATED, "long wait", "long wait", "long wait");
  cluster.finish();
  assert.deepEqual([cluster.homesOf("s1"), cluster.marks.closed?.status], [["n1:s1"], "expired"]);
});

test("a step that failed its chain is not taken up later, even if the job goes on and the node is back", () => {
  const cluster = new SimulatedCluster(
    { nodes: TWO, stitches: ["n1:s1", "n2:s2"] },
    checked("group.restart", { target: GROUP, batch: 2, ...LONG }),
  );
  after(cluster, "dispatch", "dispatch", "die", "sweep", "come back");
  assert.deepEqual(
    cluster.orchestration.chains.map(({ status, error }) => [status, error?.code]),
    [
      ["failed", "node_dead"],
      [null, undefined],
    ],
  );
  cluster.finish();
  assert.equal(cluster.told().get("n1:s1")?.revision, "1.0");
  assert.deepEqual(
    cluster.fold().tasks.map(({ status, task }) => [task.node, status, task.refused?.code]),
    [
      ["n1", "failed", "node_dead"],
      ["n2", "succeeded", undefined],
    ],
  );
});

const MANY = Array.from({ length: 25 }, (_, index) => `n1:s${index}`);
const drain = (more: object = {}) =>
  new SimulatedCluster({ nodes: TWO, stitches: MANY }, checked("node.drain", { target: "n1", ...LONG, ...more }));
const underWay = ({ orchestration }: SimulatedCluster) =>
  orchestration.chains.filter(({ phase }) => phase === "running" || phase === "undoing").length;
const moved = (cluster: SimulatedCluster) => MANY.filter((id) => !cluster.told().has(id)).length;

test("an uncordon between the waves of a drain ends the drain: running moves end, the others do not begin", () => {
  const cluster = after(drain(), "sweep", "sweep");
  assert.equal(underWay(cluster), MOVES_AT_ONCE);
  after(cluster, "uncordon");
  cluster.finish();
  assert.equal(moved(cluster), MOVES_AT_ONCE);
  assert.equal(cluster.marks.closed?.status, "cancelled");
  assert.equal(cluster.nodes.get("n1")?.eligibility, "eligible");
});

test("an uncordon that is newer than the drain's own mark ends the drain before it moves anything", () => {
  const cluster = after(drain(), "uncordon");
  cluster.finish();
  assert.equal(moved(cluster), 0);
  assert.deepEqual([cluster.marks.closed?.status, cluster.orchestration.chains[0]?.status], ["failed", "superseded"]);
});

test("a drain that finds room later moves no more than the limit at once, either", () => {
  const late = new SimulatedCluster(
    { nodes: { n1: [] }, stitches: MANY },
    drain({ forceAfterMs: DEADLINE_MS }).command,
  );
  after(late, "sweep", "sweep");
  assert.equal(underWay(late), 0);
  late.join("n2");
  late.finish(() => assert.ok(underWay(late) <= MOVES_AT_ONCE));
  assert.deepEqual([moved(late), late.marks.closed?.status], [MANY.length, "succeeded"]);
});
