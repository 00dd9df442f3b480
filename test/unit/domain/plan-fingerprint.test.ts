import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import type { Command } from "../../../src/domain/commands/command.ts";
import type { Observed } from "../../../src/domain/planning/observed.ts";
import { planFingerprint } from "../../../src/domain/commands/plan.ts";
import { checked, CREATE, node, observed, planned, record } from "./observed.ts";

const of = (command: Command, seen: Observed) => planFingerprint(command, planned(command, seen));
const create = (more: object = {}) => checked("stitch.create", { ...CREATE, ...more });
const reserving = (cpu: number) => ({
  status: { reserved: { cpu, memoryBytes: 0 }, stitchCount: 0, states: {}, eligibility: "eligible" as const },
});
const loadOf = fc.option(fc.record({ cpuPercent: fc.nat(100), memoryBytes: fc.nat(), eventLoopDelayMs: fc.nat() }));

test("loads that decide nothing, times and the counter do not change a plan's fingerprint", () => {
  const loads = fc.tuple(loadOf, loadOf, loadOf);
  fc.assert(
    fc.property(loads, loads, fc.nat(), fc.nat(), fc.nat(900), (a, b, first, later, nowMs) => {
      const seen = (all: typeof a, more: Partial<Observed>) => {
        const nodes = all.map((load, i) => node(`n${i}`, { load, ...reserving(i) }));
        return observed({ nodes, ...more });
      };
      for (const strategy of ["spread", "binpack"]) {
        const command = create({ count: 3, placement: { strategy } });
        const before = of(command, seen(a, { firstNumber: first }));
        assert.equal(of(command, seen(b, { firstNumber: later, nowMs })), before);
      }
    }),
  );
});

test("the order in which the nodes were read does not change a plan's fingerprint", () => {
  const [a, b] = [node("n1"), node("n2")];
  assert.equal(
    of(create({ count: 4 }), observed({ nodes: [a, b] })),
    of(create({ count: 4 }), observed({ nodes: [b, a] })),
  );
});

test("loads that only change which node comes first do not change a plan's fingerprint", () => {
  const busy = { load: { cpuPercent: 90, memoryBytes: 1, eventLoopDelayMs: 1 } };
  const [one, other] = [
    observed({ nodes: [node("n1", busy), node("n2")] }),
    observed({ nodes: [node("n1"), node("n2", busy)] }),
  ];
  const command = create({ count: 2 });
  const order = (seen: Observed) => planned(command, seen).tasks.map((task) => task.node);
  assert.deepEqual(
    [order(one), order(other)],
    [
      ["n2", "n1"],
      ["n1", "n2"],
    ],
  );
  assert.equal(of(command, one), of(command, other));
});

const PING = checked("node.ping", { target: "n1" });
const START = checked("stitch.start", { target: "a-1" });
const RESTART = checked("stitch.restart", { target: "a-1" });
const OTHER = create({ spec: { ...CREATE.spec, command: ["y"] } }).spec;
const DEAD = { leaseUntilMs: 0 };
const CLONE = checked("stitch.clone", { target: "a-1" });
const cloneable = (more: Partial<Observed> = {}, over: Parameters<typeof record>[1] = {}) =>
  observed({ stitches: ["n1:a-1"], records: new Map([["n1:a-1", record("n1:a-1", over)]]), ...more });

test("the counter and the load do not change the fingerprint of a clone", () => {
  const busy = node("n1", { load: { cpuPercent: 90, memoryBytes: 1, eventLoopDelayMs: 1 } });
  assert.equal(of(CLONE, cloneable()), of(CLONE, cloneable({ firstNumber: 9, nodes: [busy] })));
});

for (const [said, one, other] of [
  ["another command", of(PING, observed()), of(checked("node.cordon", { target: "n1" }), observed())],
  ["another target", of(create(), observed()), of(create({ target: "shop.orders.2" }), observed())],
  ["another count", of(create(), observed()), of(create({ count: 2 }), observed())],
  ["another spec", of(create(), observed()), of(create({ spec: { ...CREATE.spec, command: ["y"] } }), observed())],
  ["another node", of(create(), observed()), of(create(), observed({ nodes: [node("n2")] }))],
  ["not started", of(create(), observed()), of(create({ start: false }), observed())],
  ["another id", of(create({ id: "a" }), observed()), of(create({ id: "b" }), observed())],
  ["a node that died", of(PING, observed()), of(PING, observed({ nodes: [node("n1", DEAD)] }))],
  [
    "a restart, not a start",
    of(START, observed({ stitches: ["n1:a-1"] })),
    of(RESTART, observed({ stitches: ["n1:a-1"] })),
  ],
  ["a clone of another spec", of(CLONE, cloneable()), of(CLONE, cloneable({}, { spec: OTHER }))],
  ["a clone of another group", of(CLONE, cloneable()), of(CLONE, cloneable({}, { group: "a.b.1" }))],
  ["a clone on another node", of(CLONE, cloneable()), of(CLONE, cloneable({ nodes: [node("n2")] }))],
  ["another stitch", of(START, observed({ stitches: ["n1:a-1"] })), of(START, observed({ stitches: ["n1:a-2"] }))],
] as const) {
  test(`another fingerprint for: ${said}`, () => {
    assert.notEqual(one, other);
  });
}
