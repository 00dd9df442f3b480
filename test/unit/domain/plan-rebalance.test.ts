import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { splitFullId } from "../../../src/domain/names/ids.ts";
import type { NodeRecord } from "../../../src/domain/node/node.ts";
import type { Observed } from "../../../src/domain/planning/observed.ts";
import { planCommand } from "../../../src/domain/commands/plan.ts";
import type { StitchRecord } from "../../../src/domain/stitch/stitch.ts";
import { checked, CREATE, node, observed, record, specOf, withStitches } from "./observed.ts";

type Cluster = { readonly nodes: readonly NodeRecord[]; readonly records: ReadonlyMap<string, StitchRecord> };

const seen = ({ nodes, records }: Cluster, over: Partial<Observed> = {}) =>
  observed({ nodes, ...withStitches(records), ...over });
const rebalance = (cluster: Cluster, more: object = {}) =>
  planCommand(checked("group.rebalance", { target: CREATE.target, ...more }), seen(cluster));

/** The old and the new full id of every move. */
const movesOf = (plan: ReturnType<typeof planCommand>) =>
  (plan.orchestration?.chains ?? []).map(({ stitch, links }) => ({
    from: stitch ?? "",
    to: links[0]?.step.stitch ?? "",
  }));

function after({ nodes, records }: Cluster, plan: ReturnType<typeof planCommand>): Cluster {
  const moved = new Map(movesOf(plan).map(({ from, to }) => [from, to]));
  return { nodes, records: new Map([...records].map(([id, each]) => [moved.get(id) ?? id, each])) };
}

const zonesOf = (zone: string | null) => (zone === null ? [] : [zone]);
const FACTS = { labels: {}, capacity: { cpu: 64, memoryBytes: 1e9 }, modules: [], version: "1" };
/** Stitches of one group, up to `most` on each node. Each node is in one zone or in none. */
const clusters = (zone: fc.Arbitrary<string | null>, most: number) =>
  fc
    .array(
      fc.record({
        zone,
        many: fc.nat(most),
        eligibility: fc.constantFrom("eligible", "eligible", "eligible", "cordoned"),
      }),
      {
        minLength: 1,
        maxLength: 6,
      },
    )
    .map((all): Cluster => {
      const ids = all.flatMap(({ many }, on) => Array.from({ length: many }, (_, i) => `n${on}:s${on}-${i}`));
      return {
        nodes: all.map((each, on) =>
          node(`n${on}`, { facts: { ...FACTS, zones: zonesOf(each.zone) }, eligibility: each.eligibility }),
        ),
        records: new Map([...ids, `n0:s`].map((id) => [id, record(id)])),
      };
    });
const allEligible = ({ nodes, records }: Cluster): Cluster => ({
  nodes: nodes.map((each) => ({ ...each, eligibility: "eligible" })),
  records,
});
const spreads = clusters(fc.constantFrom("a", "b", "c"), 8);
const oneZone = clusters(fc.constantFrom(null, null), 12).map(allEligible);

/** How uneven the spread is, over zones and then over nodes. The sum of squares shrinks with each move from more to less. */
function unevenness({ nodes, records }: Cluster): readonly [zones: number, nodes: number] {
  const perNode = new Map(nodes.map(({ id }) => [id, 0]));
  for (const id of records.keys()) perNode.set(splitFullId(id).node, (perNode.get(splitFullId(id).node) ?? 0) + 1);
  const perZone = new Map<string, number>();
  for (const { id, facts } of nodes)
    for (const zone of facts.zones) perZone.set(zone, (perZone.get(zone) ?? 0) + (perNode.get(id) ?? 0));
  const squares = (counts: Iterable<number>) => [...counts].reduce((sum, count) => sum + count * count, 0);
  return [squares(perZone.values()), squares(perNode.values())];
}

test("a rebalance never makes the spread worse, over zones first and then over nodes; its moves make it better", () => {
  fc.assert(
    fc.property(spreads, fc.option(fc.nat(10), { nil: undefined }), (cluster, maxMoves) => {
      const plan = rebalance(cluster, maxMoves === undefined ? {} : { maxMoves });
      const [[zonesBefore, nodesBefore], [zones, onNodes]] = [unevenness(cluster), unevenness(after(cluster, plan))];
      if (movesOf(plan).length === 0) return assert.deepEqual([zones, onNodes], [zonesBefore, nodesBefore]);
      assert.ok(zones < zonesBefore || (zones === zonesBefore && onNodes < nodesBefore));
    }),
    { numRuns: 1000 },
  );
});

test("moves each stitch at most once, to another node that takes it, and at most maxMoves of them", () => {
  fc.assert(
    fc.property(spreads, fc.nat(10), (cluster, maxMoves) => {
      const moves = movesOf(rebalance(cluster, { maxMoves }));
      assert.ok(moves.length <= maxMoves);
      assert.equal(new Set(moves.map(({ from }) => from)).size, moves.length);
      const open = new Set(cluster.nodes.filter(({ eligibility }) => eligibility === "eligible").map(({ id }) => id));
      for (const { from, to } of moves) {
        assert.notEqual(splitFullId(from).node, splitFullId(to).node);
        assert.equal(splitFullId(from).stitch, splitFullId(to).stitch);
        for (const id of [from, to]) assert.ok(open.has(splitFullId(id).node));
      }
    }),
    { numRuns: 500 },
  );
});

test("a second rebalance finds nothing to move", () => {
  fc.assert(
    fc.property(spreads, (cluster) => {
      assert.deepEqual(movesOf(rebalance(after(cluster, rebalance(cluster)))), []);
    }),
    { numRuns: 1000 },
  );
});

test("within one zone the result is even, with no more moves than needed", () => {
  fc.assert(
    fc.property(oneZone, (cluster) => {
      const countsOf = ({ nodes, records }: Cluster) =>
        nodes.map(({ id }) => [...records.keys()].filter((each) => splitFullId(each).node === id).length);
      const counts = countsOf(cluster).sort((a, b) => b - a);
      const total = counts.reduce((sum, count) => sum + count, 0);
      // If the total does not divide evenly, the fullest nodes keep one more.
      const target = (index: number) => Math.floor(total / counts.length) + (index < total % counts.length ? 1 : 0);
      const needed = counts.reduce((sum, count, index) => sum + Math.max(0, count - target(index)), 0);
      const plan = rebalance(cluster);
      assert.equal(movesOf(plan).length, needed);
      const end = countsOf(after(cluster, plan));
      assert.ok(Math.max(...end) - Math.min(...end) <= 1);
    }),
    { numRuns: 500 },
  );
});

test("the same cluster gives the same moves, in whatever order it was read", () => {
  fc.assert(
    fc.property(spreads, ({ nodes, records }) => {
      const turned = { nodes: nodes.toReversed(), records: new Map([...records].reverse()) };
      assert.deepEqual(movesOf(rebalance(turned)), movesOf(rebalance({ nodes, records })));
    }),
    { numRuns: 200 },
  );
});

const at = (ids: readonly string[], over: (id: string) => Parameters<typeof record>[1] = () => ({})) =>
  new Map(ids.map((id) => [id, record(id, over(id))]));
const NODES = [node("n1"), node("n2")];

test("a stitch that must stay does not keep others on its node from being moved", () => {
  const ids = ["n1:a", "n1:b", "n1:y", "n1:z"];
  const pinned = { spec: { ...specOf(record("n1:z")), reschedule: false } };
  const labelled = { placement: { strategy: "spread" as const, labels: { disk: "ssd" } } };
  for (const over of [pinned, labelled]) {
    const records = at(ids, (id) => (id > "n1:x" ? over : {}));
    const labels = { facts: { ...FACTS, zones: [], labels: { disk: "ssd" } } };
    const moves = movesOf(rebalance({ nodes: [node("n1", labels), node("n2")], records }));
    assert.deepEqual(moves, [
      { from: "n1:b", to: "n2:b" },
      { from: "n1:a", to: "n2:a" },
    ]);
  }
  // Another stitch has its id there.
  const records = at(ids);
  const homes = new Map(ids.map((id) => [splitFullId(id).stitch, new Set(id > "n1:x" ? ["n1", "n2"] : ["n1"])]));
  const command = checked("group.rebalance", { target: CREATE.target });
  assert.equal(movesOf(planCommand(command, seen({ nodes: NODES, records }, { homes }))).length, 2);
});

test("if nodes cannot take what would improve the spread, the plan says why, each reason once", () => {
  const records = at(["n1:a", "n1:b", "n1:c"], (id) =>
    id === "n1:a" ? { placement: { strategy: "spread", labels: { disk: "ssd" } } } : {},
  );
  const nodes = [node("n1"), node("n2", { eligibility: "cordoned" }), node("n3", { leaseUntilMs: 0 })];
  const refusals = (of: ReturnType<typeof planCommand>) => of.refusals.map((each) => `${each.node} ${each.code}`);
  assert.deepEqual(refusals(rebalance({ nodes, records })), ["n2 cordoned", "n3 not_alive"]);
  assert.deepEqual(refusals(rebalance({ nodes: NODES, records: at(["n1:a", "n2:b"]) })), []);
});

test("leaves stitches on nodes that take none, and does not mix groups", () => {
  for (const over of [
    { eligibility: "cordoned" },
    { eligibility: "draining" },
    { leaseUntilMs: 0 },
    { leftAtMs: 5 },
  ] as const)
    assert.deepEqual(
      movesOf(rebalance({ nodes: [node("n1", over), node("n2")], records: at(["n1:a", "n1:b", "n1:c"]) })),
      [],
    );
  const apart = at(["n1:a", "n1:b"], (id) => ({ group: id === "n1:a" ? "shop.orders.1" : "shop.orders.2" }));
  assert.deepEqual(movesOf(rebalance({ nodes: NODES, records: apart }, { target: "shop" })), []);
  assert.throws(() => rebalance({ nodes: NODES, records: new Map() }), { code: "not_found" });
});
