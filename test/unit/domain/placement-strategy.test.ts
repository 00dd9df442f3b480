import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { placementOptions } from "../../../src/domain/stitch/placement-options.ts";
import { type Candidate, place } from "../../../src/domain/placement/placement.ts";
import { stitchSpec } from "../../../src/domain/stitch/spec.ts";

const SPREAD = placementOptions.parse({});
const BINPACK = placementOptions.parse({ strategy: "binpack" });
const asking = (cpu: number, memoryBytes = 0) =>
  stitchSpec.parse({ adaptor: "process", command: ["x"], resources: { cpu, memoryBytes } });
const on = (id: string, over: Partial<Candidate> = {}): Candidate => ({
  id,
  liveness: "alive",
  eligibility: "eligible",
  zones: [],
  labels: {},
  modules: [],
  capacity: { cpu: 8, memoryBytes: 800 },
  reserved: { cpu: 0, memoryBytes: 0 },
  cpuPercent: 0,
  ofGroup: 0,
  ...over,
});
const chosen = (...args: Parameters<typeof place>) => place(...args).placed?.map(({ node }) => node) ?? null;
const evenness = (counts: readonly number[]) => Math.max(...counts) - Math.min(...counts);
const nodeCount = fc.integer({ min: 1, max: 7 });
const count = fc.integer({ min: 1, max: 25 });

test("spread over equal nodes differs by at most one, with all nodes in one zone or each in its own", () => {
  fc.assert(
    fc.property(nodeCount, count, fc.boolean(), fc.array(fc.nat(9), { minLength: 7 }), (n, asked, apart, loads) => {
      const nodes = Array.from({ length: n }, (_, i) =>
        on(`n${i}`, { zones: [apart ? `z${i}` : "z"], cpuPercent: loads[i] ?? 0 }),
      );
      const picks = chosen(nodes, asking(0), SPREAD, asked) ?? [];
      assert.equal(picks.length, asked);
      assert.ok(evenness(nodes.map(({ id }) => picks.filter((pick) => pick === id).length)) <= 1);
    }),
  );
});

test("spread counts zones before nodes: zones of unequal size differ by at most one", () => {
  fc.assert(
    fc.property(fc.array(nodeCount, { minLength: 1, maxLength: 4 }), count, (sizes, asked) => {
      const nodes = sizes.flatMap((size, z) =>
        Array.from({ length: size }, (_, i) => on(`n${z}-${i}`, { zones: [`z${z}`] })),
      );
      const picks = chosen(nodes, asking(0), SPREAD, asked) ?? [];
      assert.ok(evenness(sizes.map((_, z) => picks.filter((pick) => pick.startsWith(`n${z}-`)).length)) <= 1);
      for (const [z, size] of sizes.entries())
        assert.ok(
          evenness(Array.from({ length: size }, (_, i) => picks.filter((p) => p === `n${z}-${i}`).length)) <= 1,
        );
    }),
  );
});

test("spread takes the stitches that the group already has into account", () => {
  assert.deepEqual(chosen([on("n1", { ofGroup: 2 }), on("n2")], asking(0), SPREAD, 3), ["n2", "n2", "n1"]);
});

test("the group's stitches in a zone count while their node is alive or suspect, and not if it is dead or left", () => {
  for (const [liveness, expected] of [
    ["alive", "n2"],
    ["suspect", "n2"],
    ["dead", "n1"],
    ["left", "n1"],
  ] as const) {
    const other = on("n3", { zones: ["a"], ofGroup: 2, liveness, eligibility: "cordoned" });
    assert.deepEqual(chosen([on("n1", { zones: ["a"] }), on("n2", { zones: ["b"] }), other], asking(0), SPREAD, 1), [
      expected,
    ]);
  }
});

test("of equal nodes, spread takes the least reserved and binpack the most reserved, by the fuller resource", () => {
  const nodes = [
    on("n1", { reserved: { cpu: 4, memoryBytes: 0 } }),
    on("n2", { reserved: { cpu: 1, memoryBytes: 600 } }),
    on("n3", { reserved: { cpu: 2, memoryBytes: 100 } }),
  ];
  assert.deepEqual(chosen(nodes, asking(1), SPREAD, 1), ["n3"]);
  assert.deepEqual(chosen(nodes, asking(1), BINPACK, 1), ["n2"]);
});

test("binpack fills one node before it begins another, and goes on when no more fits", () => {
  const nodes = [on("n1"), on("n2", { reserved: { cpu: 5, memoryBytes: 0 } })];
  assert.deepEqual(chosen(nodes, asking(1.5), BINPACK, 4), ["n2", "n2", "n1", "n1"]);
});

test("the measured load only breaks ties, and then the id does", () => {
  const loaded = on("n1", { cpuPercent: 90 });
  for (const wish of [SPREAD, BINPACK]) {
    assert.deepEqual(chosen([loaded, on("n2", { cpuPercent: 10 })], asking(0), wish, 1), ["n2"]);
    assert.deepEqual(chosen([on("n2"), on("n1")], asking(0), wish, 1), ["n1"]);
  }
  assert.deepEqual(chosen([loaded, on("n2", { ofGroup: 1 })], asking(0), SPREAD, 1), ["n1"]);
});
