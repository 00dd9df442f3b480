import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import type { Command } from "../../../src/domain/commands/command.ts";
import { splitFullId } from "../../../src/domain/names/ids.ts";
import type { NodeRecord } from "../../../src/domain/node/node.ts";
import type { Plan } from "../../../src/domain/planning/planned.ts";
import { type PlacementOptions, placementOptions } from "../../../src/domain/stitch/placement-options.ts";
import { type StitchSpec, stitchSpec } from "../../../src/domain/stitch/spec.ts";
import type { StitchRecord } from "../../../src/domain/stitch/stitch.ts";
import { checked, CREATE, node, observed, planned, record, stored, withStitches } from "./observed.ts";

const AWAY: readonly Partial<NodeRecord>[] = [{ leaseUntilMs: 0 }, { leaseUntilMs: 950 }, { leftAtMs: 5 }];
const usually = <T>(usual: T, others: readonly T[]) =>
  fc.oneof({ weight: 5, arbitrary: fc.constant(usual) }, fc.constantFrom(...others));

const nodes = fc
  .array(
    fc.record({
      zones: fc.subarray(["a", "b"]),
      disk: fc.constantFrom("ssd", "ssd", "hdd"),
      modules: fc.constantFrom<string[]>(["echo"], ["echo"], []),
      cpu: fc.constantFrom(2, 4, 8),
      eligibility: usually<NodeRecord["eligibility"]>("eligible", ["cordoned", "draining"]),
      away: usually<Partial<NodeRecord>>({}, AWAY),
    }),
    { minLength: 2, maxLength: 5 },
  )
  .map((all) =>
    all.map(({ zones, disk, modules, cpu, eligibility, away }, index): NodeRecord => {
      const facts = { zones, labels: { disk }, modules, capacity: { cpu, memoryBytes: 1000 }, version: "1" };
      return node(`n${index}`, { facts, eligibility, ...away });
    }),
  );
const spec = fc
  .record({ isModule: fc.boolean(), cpu: fc.constantFrom(0, 0.5, 1), memoryBytes: fc.constantFrom(0, 300) })
  .map(({ isModule, ...resources }) =>
    stitchSpec.parse({
      ...(isModule ? { adaptor: "module", module: "echo" } : { adaptor: "process", command: ["x"] }),
      resources,
      reschedule: true,
    }),
  );
const placement = fc
  .record(
    {
      strategy: fc.constantFrom("spread", "binpack"),
      zones: fc.subarray(["a", "b"], { minLength: 1 }),
      labels: fc.constant({ disk: "ssd" }),
      maxPerNode: fc.integer({ min: 1, max: 3 }),
    },
    { requiredKeys: ["strategy"] },
  )
  .map((options) => placementOptions.parse(options));

type Cluster = { nodes: readonly NodeRecord[]; records: ReadonlyMap<string, StitchRecord>; like: Like };
type Like = { readonly spec: StitchSpec; readonly placement: PlacementOptions };

/** Equal stitches of one group, on any nodes. Their nodes report what they reserve. */
const clusters = fc
  .record({ nodes, spec, placement, homes: fc.array(fc.nat(4), { minLength: 1, maxLength: 6 }) })
  .map(({ nodes: all, homes, ...like }): Cluster => {
    const ids = homes.map((home, index) => `n${home % all.length}:s${index}`);
    return {
      nodes: all.map((each) => {
        const many = ids.filter((id) => splitFullId(id).node === each.id).length;
        const { cpu, memoryBytes } = like.spec.resources;
        const reserved = { cpu: many * cpu, memoryBytes: many * memoryBytes };
        return { ...each, status: { ...each.status, reserved } };
      }),
      records: new Map(ids.map((id) => [id, record(id, like)])),
      like,
    };
  });

const commands: Readonly<Record<string, (cluster: Cluster, many: number) => Command>> = {
  "stitch.create": ({ like }, many) => checked("stitch.create", { target: CREATE.target, ...like, count: many }),
  "stitch.clone": () => checked("stitch.clone", { target: "s0" }),
  "group.scale": ({ records }, many) => checked("group.scale", { target: CREATE.target, count: records.size + many }),
  "stitch.move": () => checked("stitch.move", { target: "s0" }),
  "group.rebalance": () => checked("group.rebalance", { target: CREATE.target }),
  "node.drain": () => checked("node.drain", { target: "n0" }),
};

/** What a Master reads for the command. */
function seen({ nodes: all, records, like }: Cluster, { command }: Command) {
  const isMeant = (id: string) =>
    command === "node.drain"
      ? id.startsWith("n0:")
      : command === "stitch.move" || command === "stitch.clone"
        ? id.endsWith(":s0")
        : command !== "stitch.create";
  const everywhere = withStitches(records);
  const stitches = [...records.keys()].filter(isMeant).sort();
  const template = command === "group.scale" ? { ...stored(like.spec), placement: like.placement } : null;
  return observed({ nodes: all, ...everywhere, stitches, template, firstNumber: 900 });
}

/** Every stitch as it is after the plan is carried out: the old stitches of moves are gone. */
function end({ records }: Cluster, plan: Plan): string[] {
  const chains = plan.orchestration?.chains ?? [];
  const steps = [
    ...plan.tasks.flatMap((task) => task.steps),
    ...chains.flatMap(({ links }) => links.map(({ step }) => step)),
  ];
  const left = new Set(records.keys());
  for (const { action, stitch } of steps) {
    if (action === "create") left.add(stitch);
    else if (action === "remove") left.delete(stitch);
  }
  return [...left];
}

/** The rules, written a second time: why a node must not get the last of its `many` stitches; null if it may. */
function broken(on: NodeRecord, { spec: of, placement: wish }: Like, many: number): string | null {
  if (on.leaseUntilMs <= 1000 || on.leftAtMs !== null) return "not_alive";
  if (on.eligibility !== "eligible") return on.eligibility;
  const { zones, labels, modules, capacity } = on.facts;
  if (wish.zones !== undefined && !zones.some((zone) => wish.zones?.includes(zone))) return "zone";
  if (wish.labels !== undefined && labels["disk"] !== wish.labels["disk"]) return "label";
  if (of.adaptor === "module" && !modules.includes(of.module)) return "module_missing";
  if (wish.maxPerNode !== undefined && many > wish.maxPerNode) return "max_per_node";
  if (of.resources.cpu > 0 && many * of.resources.cpu > capacity.cpu) return "cpu";
  if (of.resources.memoryBytes > 0 && many * of.resources.memoryBytes > capacity.memoryBytes) return "memory";
  return null;
}

for (const [name, commandFor] of Object.entries(commands)) {
  test(`${name}: all placements together keep every constraint; if there is none, each node is refused with its reason`, () => {
    fc.assert(
      fc.property(clusters, fc.integer({ min: 1, max: 6 }), (cluster, many) => {
        const command = commandFor(cluster, many);
        const plan = planned(command, seen(cluster, command));
        const all = end(cluster, plan);
        const countOn = (id: string) => all.filter((each) => splitFullId(each).node === id).length;
        const given = all.filter((id) => !cluster.records.has(id));
        for (const id of given) {
          const on = cluster.nodes.find((each) => each.id === splitFullId(id).node) ?? assert.fail(id);
          assert.equal(broken(on, cluster.like, countOn(on.id)), null, id);
        }
        assert.deepEqual(plan.placements.map(({ stitch }) => stitch).sort(), given.sort());
        // In a drain, only the drained node can be the reason.
        if (plan.feasible || name === "node.drain") return;
        // A move leaves its own node first, and may not stay there.
        const from =
          name === "stitch.move"
            ? splitFullId([...cluster.records.keys()].find((id) => id.endsWith(":s0")) ?? "").node
            : "";
        const refused = new Map(plan.refusals.map(({ node: id, code }) => [id, code]));
        assert.deepEqual(
          [...refused.keys()].sort(),
          cluster.nodes
            .map(({ id }) => id)
            .filter((id) => id !== from)
            .sort(),
        );
        assert.equal(refused.size, plan.refusals.length);
        // If only one stitch was to be placed, the number on each node is known.
        if (name !== "stitch.move" && name !== "stitch.clone") return;
        for (const on of cluster.nodes)
          if (on.id !== from) assert.equal(refused.get(on.id), broken(on, cluster.like, countOn(on.id) + 1));
      }),
      { numRuns: 1000 },
    );
  });
}

test("a drain says for each stitch that cannot be moved why, and leaves it until it forces", () => {
  fc.assert(
    fc.property(clusters, (cluster) => {
      const command = checked("node.drain", { target: "n0" });
      const plan = planned(command, seen(cluster, command));
      if (!plan.feasible)
        return assert.deepEqual(
          plan.refusals.map(({ node: on, code }) => [on, code]),
          [["n0", "not_alive"]],
        );
      const there = [...cluster.records.keys()].filter((id) => id.startsWith("n0:"));
      const stay = plan.warnings.flatMap(({ code, stitch }) => (code === "cannot_move" ? [stitch ?? ""] : []));
      const moved = (plan.orchestration?.chains ?? []).flatMap(({ stitch }) => stitch ?? []);
      assert.deepEqual([...moved, ...stay].sort(), there.sort());
      // For every other node, the plan says why it takes no more of them, each reason once.
      const others = cluster.nodes.flatMap(({ id }) => (id === "n0" ? [] : id));
      assert.deepEqual([...new Set(plan.refusals.map((each) => each.node))].sort(), stay.length === 0 ? [] : others);
      assert.equal(new Set(plan.refusals.map(({ node: on, code }) => `${on} ${code}`)).size, plan.refusals.length);
      // No node can take a stitch that stays, in addition to those placed on it.
      const all = end(cluster, plan);
      for (const on of cluster.nodes) {
        if (on.id === "n0" || stay.length === 0) continue;
        const one = all.filter((id) => splitFullId(id).node === on.id).length + 1;
        assert.notEqual(broken(on, cluster.like, one), null);
      }
    }),
    { numRuns: 500 },
  );
});
