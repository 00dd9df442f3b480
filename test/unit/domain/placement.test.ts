import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { type PlacementOptions, placementOptions } from "../../../src/domain/stitch/placement-options.ts";
import { type Candidate, place } from "../../../src/domain/placement/placement.ts";
import { type StitchSpec, stitchSpec } from "../../../src/domain/stitch/spec.ts";

const tenths = (max: number) => fc.nat(max).map((n) => n / 10);
const resources = (cpu: number, memory: number) => fc.record({ cpu: tenths(cpu), memoryBytes: fc.nat(memory) });
const often = <T>(usual: T, ...others: T[]) =>
  fc.oneof({ weight: 6, arbitrary: fc.constant(usual) }, fc.constantFrom(...others));
const node = fc.record({
  id: fc.constantFrom("n1", "n2", "n3", "n4", "n5", "n6"),
  liveness: often<Candidate["liveness"]>("alive", "suspect", "dead", "left"),
  eligibility: often<Candidate["eligibility"]>("eligible", "cordoned", "draining"),
  zones: fc.subarray(["a", "b", "c"]),
  labels: fc.constantFrom<Record<string, string>>({}, { disk: "ssd" }, { disk: "hdd" }),
  modules: fc.subarray(["echo"]),
  capacity: resources(50, 60),
  reserved: resources(15, 20),
  cpuPercent: fc.nat(3),
  ofGroup: fc.nat(3),
});
const nodes = fc.uniqueArray(node, { selector: (each) => each.id, maxLength: 6 });
const spec = fc
  .tuple(fc.constantFrom("process", "module"), resources(10, 10))
  .map(([adaptor, asked]) =>
    stitchSpec.parse(
      adaptor === "module"
        ? { adaptor, module: "echo", resources: asked }
        : { adaptor, command: ["x"], resources: asked },
    ),
  );
const wish = fc
  .record(
    {
      strategy: fc.constantFrom("spread", "binpack"),
      zones: fc.subarray(["a", "b"], { minLength: 1 }),
      labels: fc.constant({ disk: "ssd" }),
      maxPerNode: fc.integer({ min: 1, max: 5 }),
    },
    { requiredKeys: ["strategy"] },
  )
  .map((options) => placementOptions.parse(options));
const count = fc.integer({ min: 1, max: 12 });

/** How many more the node may take, calculated without placing any. */
function room(on: Candidate, of: StitchSpec, { zones, labels, maxPerNode = Infinity }: PlacementOptions): number {
  if (on.liveness !== "alive" || on.eligibility !== "eligible") return 0;
  if (zones !== undefined && !on.zones.some((zone) => zones.includes(zone))) return 0;
  if (labels !== undefined && on.labels["disk"] !== labels["disk"]) return 0;
  if (of.adaptor === "module" && !on.modules.includes(of.module)) return 0;
  const fits = (capacity: number, reserved: number, asked: number) =>
    asked === 0 ? Infinity : Math.floor((capacity - reserved) / asked);
  const [capacity, reserved, asked] = [on.capacity, on.reserved, of.resources];
  const milli = (cores: number) => Math.round(cores * 1000);
  const cpu = fits(milli(capacity.cpu), milli(reserved.cpu), milli(asked.cpu));
  return Math.max(
    0,
    Math.min(maxPerNode - on.ofGroup, cpu, fits(capacity.memoryBytes, reserved.memoryBytes, asked.memoryBytes)),
  );
}

const tally = (of: readonly Candidate[], placed: readonly { node: string }[] | null) =>
  of.map(({ id }) => placed?.filter((each) => each.node === id).length ?? 0);

test("places all within every node's room, or none if there is less room than asked for", () => {
  fc.assert(
    fc.property(nodes, spec, wish, count, (on, of, as, n) => {
      const rooms = on.map((each) => room(each, of, as));
      const { placed } = place(on, of, as, n);
      assert.equal(placed?.length ?? null, rooms.reduce((sum, each) => sum + each, 0) >= n ? n : null);
      for (const [index, took] of tally(on, placed).entries()) assert.ok(took <= (rooms[index] ?? 0));
    }),
    { numRuns: 2000 },
  );
});

test("refuses each node that cannot take one, once; if nothing is placed, that is every node", () => {
  fc.assert(
    fc.property(nodes, spec, wish, count, (on, of, as, n) => {
      const { placed, refusals } = place(on, of, as, n);
      const full = placed === null ? on : on.filter((each) => room(each, of, as) === 0);
      assert.deepEqual(refusals.map((each) => each.node).sort(), full.map((each) => each.id).sort());
    }),
    { numRuns: 1000 },
  );
});

test("the order of the nodes changes nothing, and place does not change the nodes", () => {
  const twice = nodes.chain((on) => fc.tuple(fc.constant(on), fc.shuffledSubarray(on, { minLength: on.length })));
  fc.assert(
    fc.property(twice, spec, wish, count, ([on, shuffled], of, as, n) => {
      const before = structuredClone(on);
      const [a, b] = [place(on, of, as, n), place(shuffled, of, as, n)];
      assert.deepEqual(a.placed, b.placed);
      const byNode = (x: { node: string }, y: { node: string }) => (x.node < y.node ? -1 : 1);
      assert.deepEqual(a.refusals.toSorted(byNode), b.refusals.toSorted(byNode));
      assert.deepEqual(structuredClone(on), before);
    }),
    { numRuns: 500 },
  );
});
