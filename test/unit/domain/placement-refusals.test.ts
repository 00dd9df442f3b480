import assert from "node:assert/strict";
import { test } from "node:test";
import { placementOptions } from "../../../src/domain/stitch/placement-options.ts";
import { type Candidate, candidateOf, place } from "../../../src/domain/placement/placement.ts";
import { stitchSpec } from "../../../src/domain/stitch/spec.ts";

const GOOD: Candidate = {
  id: "n2",
  liveness: "alive",
  eligibility: "eligible",
  zones: ["a"],
  labels: { disk: "ssd" },
  modules: ["echo"],
  capacity: { cpu: 8, memoryBytes: 800 },
  reserved: { cpu: 0, memoryBytes: 0 },
  cpuPercent: 0,
  ofGroup: 0,
};
const HALF = { cpu: 7.5, memoryBytes: 750 };
for (const [code, over] of [
  ["not_alive", { liveness: "suspect", eligibility: "cordoned" }],
  ["cordoned", { eligibility: "cordoned", zones: [] }],
  ["draining", { eligibility: "draining", zones: [] }],
  ["zone", { zones: ["b"], labels: {} }],
  ["label", { labels: { disk: "hdd" }, modules: [] }],
  ["label", { labels: {}, modules: [] }],
  ["module_missing", { modules: ["other"], ofGroup: 2 }],
  ["max_per_node", { ofGroup: 2, reserved: HALF }],
  ["cpu", { reserved: HALF }],
  ["memory", { reserved: { cpu: 7, memoryBytes: 750 } }],
] as const satisfies [string, Partial<Candidate>][]) {
  test(`a node is refused for the first rule it breaks: ${code} (${JSON.stringify(over)})`, () => {
    const wish = placementOptions.parse({ zones: ["a"], labels: { disk: "ssd" }, maxPerNode: 2 });
    const spec = stitchSpec.parse({ adaptor: "module", module: "echo", resources: { cpu: 1, memoryBytes: 100 } });

    const { placed, refusals } = place([{ ...GOOD, id: "n1", ...over }, GOOD], spec, wish, 1);
    assert.deepEqual(
      placed?.map(({ node }) => node),
      ["n2"],
    );
    assert.deepEqual(
      refusals.map(({ node, code: said }) => [node, said]),
      [["n1", code]],
    );
    assert.notEqual(refusals[0]?.message, "");
  });
}

test("a candidate has the node's facts, what the node published, and its load if there is one", () => {
  const facts = {
    zones: ["a"],
    labels: { k: "v" },
    capacity: { cpu: 2, memoryBytes: 3 },
    modules: ["m"],
    version: "1",
  };
  const status = { reserved: { cpu: 1, memoryBytes: 2 }, stitchCount: 1, states: {}, eligibility: "eligible" as const };
  const load = { cpuPercent: 42, memoryBytes: 1, eventLoopDelayMs: 1 };
  const record = {
    id: "n1",
    incarnation: 1,
    leaseUntilMs: 1,
    leftAtMs: null,
    startedAtMs: 0,
    lastBeatAtMs: 0,
    facts,
    status,
  };
  const node = {
    ...record,
    load,
    eligibility: "draining",
    uncordonedBy: 0,
    deadIncarnation: null,
    readAtMs: 1,
  } as const;
  const { version: _, ...shown } = facts;
  const expected = {
    id: "n1",
    liveness: "suspect",
    eligibility: "draining",
    ...shown,
    reserved: status.reserved,
    ofGroup: 4,
  };
  assert.deepEqual(candidateOf(node, "suspect", 4), { ...expected, cpuPercent: 42 });
  assert.equal(candidateOf({ ...node, load: null }, "alive", 0).cpuPercent, 0);
});
