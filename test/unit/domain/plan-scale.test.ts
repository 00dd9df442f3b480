import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { splitFullId } from "../../../src/domain/names/ids.ts";
import type { NodeRecord } from "../../../src/domain/node/node.ts";
import type { Observed } from "../../../src/domain/planning/observed.ts";
import { planCommand } from "../../../src/domain/commands/plan.ts";
import type { Plan } from "../../../src/domain/planning/planned.ts";
import type { StitchRecord } from "../../../src/domain/stitch/stitch.ts";
import { checked, CREATE, node, observed, placed, record, specOf, stored, withStitches } from "./observed.ts";
import { calm, runToEnd, scenarios } from "./simulated-jobs.ts";

type Cluster = { readonly nodes: readonly NodeRecord[]; readonly records: ReadonlyMap<string, StitchRecord> };

const scale = ({ nodes, records }: Cluster, count: number, over: Partial<Observed> = {}, more: object = {}): Plan =>
  planCommand(
    checked("group.scale", { target: CREATE.target, count, ...more }),
    observed({ nodes, ...withStitches(records), firstNumber: 500, ...over }),
  );
const stepsOf = ({ orchestration }: Plan) =>
  (orchestration?.chains ?? []).flatMap(({ links }) => links.map(({ step }) => step));
const removed = (plan: Plan) =>
  stepsOf(plan).flatMap(({ action, stitch }) => (action === "remove" ? [stitch ?? ""] : []));
const created = (plan: Plan) => stepsOf(plan).flatMap((step) => (step.action === "create" ? [step.stitch] : []));

const DEAD = { leaseUntilMs: 0 };
const UNWELL: readonly Partial<StitchRecord>[] = [
  { health: "red" },
  { health: "yellow" },
  { state: "stopped", desired: "stopped" },
  { state: "failed", health: "missing" },
  { finished: true, state: "stopped" },
];
const members = fc.array(
  fc.record({ on: fc.integer({ min: 1, max: 4 }), over: fc.option(fc.constantFrom(...UNWELL), { freq: 3 }) }),
  { minLength: 1, maxLength: 15 },
);
const clusters = fc
  .tuple(members, fc.subarray([1, 2, 3, 4], { maxLength: 2 }))
  .map(([all, dead]): Cluster & { isWell: (id: string) => boolean } => {
    const records = all.map(({ on, over }, index) => {
      const id = `n${on}:s${index}`;
      return [id, record(id, over ?? {}), over === null && !dead.includes(on)] as const;
    });
    const well = new Map(records.map(([id, , isWell]) => [id, isWell]));
    return {
      nodes: [1, 2, 3, 4].map((on) => node(`n${on}`, dead.includes(on) ? DEAD : {})),
      records: new Map(records.map(([id, each]) => [id, each])),
      isWell: (id) => well.get(id) === true,
    };
  });

test("a scale down removes just enough: unhealthy stitches first, also those last green on a dead node", () => {
  fc.assert(
    fc.property(clusters, fc.nat(15), (cluster, count) => {
      const all = [...cluster.records.keys()];
      const gone = removed(scale(cluster, Math.min(count, all.length)));
      assert.equal(gone.length, Math.max(0, all.length - count));
      assert.equal(new Set(gone).size, gone.length);
      const left = all.filter((id) => !gone.includes(id));
      if (gone.some(cluster.isWell)) assert.ok(left.every(cluster.isWell));
    }),
    { numRuns: 1000 },
  );
});

test("among healthy stitches, a scale down removes from the node that has most of the group", () => {
  fc.assert(
    fc.property(clusters, fc.nat(15), ({ nodes, records: all }, count) => {
      const records = new Map([...all.keys()].map((id) => [id, record(id)]));
      const cluster = { nodes: nodes.map((each) => ({ ...each, leaseUntilMs: 2000 })), records };
      const left = new Set(records.keys());
      const countOn = (on: string) => [...left].filter((id) => splitFullId(id).node === on).length;
      for (const id of removed(scale(cluster, Math.min(count, records.size)))) {
        assert.equal(countOn(splitFullId(id).node), Math.max(...nodes.map((each) => countOn(each.id))));
        left.delete(id);
      }
    }),
    { numRuns: 500 },
  );
});

test("a scale up creates what is missing, each under its own id, and records the former count", () => {
  fc.assert(
    fc.property(clusters, fc.nat(20), (cluster, more) => {
      fc.pre(cluster.nodes.length > 0);
      const plan = scale(cluster, cluster.records.size + more);
      assert.ok(plan.feasible);
      assert.equal(plan.orchestration?.formerCount, cluster.records.size);
      const ids = created(plan);
      assert.deepEqual([ids.length, new Set(ids).size, removed(plan)], [more, more, []]);
      for (const id of ids)
        assert.notEqual(cluster.nodes.find((each) => each.id === splitFullId(id).node)?.leaseUntilMs, 0);
    }),
    { numRuns: 300 },
  );
});

test("a scale up and then down to the former count leaves the former count", () => {
  fc.assert(
    fc.property(scenarios("group.scale", calm, false), (scenario) => {
      const before = scenario.layout.stitches.length;
      const up = runToEnd(scenario);
      const { count } = scenario.command.command === "group.scale" ? scenario.command : assert.fail();
      assert.deepEqual([up.marks.closed?.status, up.told().size], ["succeeded", count]);
      assert.equal(up.orchestration.formerCount, before);
      const stitches = [...up.told().keys()];
      if (stitches.length === 0) return;
      const command = checked("group.scale", { target: CREATE.target, count: before });
      const down = runToEnd({ ...scenario, command, layout: { ...scenario.layout, stitches } });
      assert.equal(down.told().size, before);
    }),
    { numRuns: 200 },
  );
});

test("of nodes with as many, the fullest gives one up; of one node, the last id goes", () => {
  const full = {
    status: { reserved: { cpu: 3, memoryBytes: 0 }, stitchCount: 1, states: {}, eligibility: "eligible" as const },
  };
  const records = new Map(["n1:a", "n1:b", "n2:c", "n2:d"].map((id) => [id, record(id)]));
  assert.deepEqual(removed(scale({ nodes: [node("n1", full), node("n2")], records }, 3)), ["n1:b"]);
  assert.deepEqual(removed(scale({ nodes: [node("n1"), node("n2", full)], records }, 3)), ["n2:d"]);
});

test("a new stitch is like the last one created in the group, else like its newest; else the scale is refused", () => {
  const spec = { ...specOf(record("n1:a")), stopGraceMs: 1 };
  const asked = { ...stored(spec), placement: { strategy: "binpack" as const } };
  const records = new Map([
    ["n1:a", record("n1:a", { born: "9.0" })],
    ["n1:b", record("n1:b", { born: "10.0", spec: { ...spec, stopGraceMs: 2 } })],
  ]);
  const cluster = { nodes: [node("n1")], records };
  const [step] = stepsOf(scale(cluster, 3, { template: asked }));
  assert.ok(step?.action === "create" && specOf(step).stopGraceMs === 1 && step.placement?.strategy === "binpack");
  const [newest] = stepsOf(scale(cluster, 3));
  assert.ok(newest?.action === "create" && specOf(newest).stopGraceMs === 2);
  // Its node shows it in this group, but it is assigned to another.
  const other = { ...placed("n1:b").assigned, group: "shop.debug.1" };
  assert.throws(() => scale(cluster, 3, { assigned: new Map([["n1:b", other]]) }), { code: "spec_unknown" });
  const [named] = stepsOf(scale(cluster, 3, { template: asked }, { placement: { maxPerNode: 3 } }));
  assert.ok(named?.action === "create" && named.placement?.maxPerNode === 3);
  const none = { nodes: [node("n1")], records: new Map<string, StitchRecord>() };
  assert.throws(() => scale(none, 1), { code: "no_template" });
  assert.equal(scale(none, 0).orchestration?.chains.length, 0);
  assert.equal(scale(cluster, 4, {}, { placement: { maxPerNode: 3 } }).feasible, false);
});
