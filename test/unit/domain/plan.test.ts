import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import type { CommandName } from "../../../src/domain/commands/command-names.ts";
import { RequestError } from "../../../src/domain/errors.ts";
import type { Observed } from "../../../src/domain/planning/observed.ts";
import { checked, CREATE, node, observed, planned, record, specOf, stored } from "./observed.ts";

const refusedWith =
  (code: string, facts: Record<string, unknown> = {}) =>
  (error: unknown) => {
    assert.ok(error instanceof RequestError);
    assert.deepEqual([error.code, error.facts], [code, facts]);
    return true;
  };
const NODE_COMMANDS = ["node.ping", "node.cordon", "node.uncordon"] as const satisfies CommandName[];
const STITCH_COMMANDS = [
  "stitch.start",
  "stitch.stop",
  "stitch.restart",
  "stitch.remove",
] as const satisfies CommandName[];
const DEAD = { leaseUntilMs: 0 };
const LEFT = { leftAtMs: 5 };

for (const name of NODE_COMMANDS) {
  test(`${name} becomes one task of one step for the node, run by the node or by a Master`, () => {
    // A Master also cordons a dead node.
    const n2 = node("n2", name === "node.ping" ? {} : DEAD);
    const plan = planned(checked(name, { target: "n2" }), observed({ nodes: [node("n1"), n2] }));
    const [task, ...others] = plan.tasks;
    assert.deepEqual([others, plan.feasible, task?.refused], [[], true, null]);
    assert.deepEqual([task?.node, task?.runs], ["n2", name === "node.ping" ? "node" : "master"]);
    assert.deepEqual(task?.steps, [{ action: name.slice(5), stitch: null }]);
  });

  test(`${name} of a node that is not there is not_found`, () => {
    assert.throws(() => planned(checked(name, { target: "n9" }), observed()), refusedWith("not_found"));
  });
}

for (const name of STITCH_COMMANDS) {
  test(`${name} becomes one task of one step for the stitch's node, by its full id`, () => {
    const command = checked(name, { target: "a-1", timeoutMs: 77 });
    const plan = planned(command, observed({ stitches: ["n1:a-1"] }));
    assert.deepEqual(
      plan.tasks.map((task) => [task.node, task.runs, task.refused]),
      [["n1", "node", null]],
    );
    assert.deepEqual(plan.tasks[0]?.steps, [{ action: name.slice(7), stitch: "n1:a-1", timeoutMs: 77 }]);
  });

  test(`${name} without a stitch or its node is not_found; with several stitches, ambiguous_stitch`, () => {
    const command = checked(name, { target: "a-1" });
    assert.throws(() => planned(command, observed()), refusedWith("not_found"));
    assert.throws(() => planned(command, observed({ stitches: ["n9:a-1"] })), refusedWith("not_found"));
    assert.throws(
      () => planned(command, observed({ stitches: ["n2:a-1", "n1:a-1"] })),
      refusedWith("ambiguous_stitch", { candidates: ["n1:a-1", "n2:a-1"] }),
    );
  });
}

for (const name of ["node.ping", ...STITCH_COMMANDS] as const) {
  test(`${name} to a dead or left node is one refused task, unless it waits for the node`, () => {
    for (const [over, code] of [
      [DEAD, "node_dead"],
      [{ deadIncarnation: 1 }, "node_dead"],
      [LEFT, "node_left"],
      [{ leaseUntilMs: 950 }, null],
    ] as const) {
      const seen = observed({ nodes: [node("n1", over)], stitches: name === "node.ping" ? [] : ["n1:a-1"] });
      const target = name === "node.ping" ? "n1" : "a-1";
      const plan = planned(checked(name, { target }), seen);
      assert.deepEqual(
        plan.tasks.map((task) => task.refused?.code ?? null),
        [code],
      );
      assert.ok(plan.feasible);
      const waiting = planned(checked(name, { target, waitForNode: true }), seen);
      assert.deepEqual(
        waiting.tasks.map((task) => task.refused),
        [null],
      );
    }
  });
}

test("creating a stitch that exists is stitch_exists, with the candidates", () => {
  const seen = observed({ stitches: ["n1:mine"] });
  const command = checked("stitch.create", { ...CREATE, id: "mine" });
  assert.throws(() => planned(command, seen), refusedWith("stitch_exists", { candidates: ["n1:mine"] }));
});

test("creating on an unknown node is not_found; on a node that is away, the refusal says why", () => {
  const on = (id: string, more = {}) => checked("stitch.create", { ...CREATE, node: id, ...more });
  assert.throws(() => planned(on("n9"), observed()), refusedWith("not_found"));
  const seen = observed({ nodes: [node("n1", DEAD), node("n2")] });
  const { refusals, tasks, feasible } = planned(on("n1"), seen);
  assert.deepEqual(
    [refusals.map((each) => [each.node, each.code]), tasks, feasible],
    [[["n1", "not_alive"]], [], false],
  );
  const waiting = planned(on("n1", { waitForNode: true }), seen);
  assert.deepEqual(
    waiting.tasks.map((task) => [task.node, task.refused]),
    [["n1", null]],
  );
  const cordoned = observed({ nodes: [node("n1", { eligibility: "cordoned" })] });
  assert.equal(planned(on("n1", { waitForNode: true }), cordoned).feasible, false);
  assert.equal(
    planned(checked("stitch.create", { ...CREATE, waitForNode: true }), observed({ nodes: [node("n1", DEAD)] }))
      .feasible,
    false,
  );
});

test("a create becomes a task per node and a step per stitch, numbered from the counter, or nothing", () => {
  const nodes = fc.uniqueArray(fc.constantFrom("n1", "n2", "n3", "n4"), { minLength: 1 });
  fc.assert(
    fc.property(nodes, fc.integer({ min: 1, max: 20 }), fc.nat(500), fc.boolean(), (ids, count, first, full) => {
      const seen = observed({ nodes: ids.map((id) => node(id)), firstNumber: first });
      const command = checked("stitch.create", { ...CREATE, count, placement: full ? { maxPerNode: 2 } : {} });
      const { tasks, placements, feasible, refusals } = planned(command, seen);
      assert.equal(feasible, !full || count <= 2 * ids.length);
      if (!feasible) return assert.deepEqual([tasks, placements, refusals.length], [[], [], ids.length]);
      assert.equal(new Set(tasks.map((task) => task.node)).size, tasks.length);
      assert.equal(new Set(tasks.map((task) => task.id)).size, tasks.length);
      const numbers = placements.map(({ stitch, node: on }) => stitch.replace(`${on}:orders-`, ""));
      assert.deepEqual(
        numbers,
        Array.from({ length: count }, (_, index) => String(first + index)),
      );
      const steps = tasks.flatMap((task) => task.steps.map((step) => `${task.node} ${step.stitch}`));
      assert.deepEqual(steps.sort(), placements.map((each) => `${each.node} ${each.stitch}`).sort());
    }),
  );
});

test("a step carries what was asked; reschedule defaults to false if the command names a node, else to true", () => {
  for (const [more, reschedule] of [
    [{}, true],
    [{ node: "n1" }, false],
    [{ node: "n1", spec: { ...CREATE.spec, reschedule: true } }, true],
    [{ spec: { ...CREATE.spec, reschedule: false } }, false],
  ] as const) {
    const command = checked("stitch.create", { ...CREATE, id: "mine", start: false, timeoutMs: 9, ...more });
    const spec = { ...command.spec, reschedule };
    const expected = {
      action: "create",
      stitch: "n1:mine",
      group: CREATE.target,
      specHash: stored(spec).specHash,
      start: false,
      timeoutMs: 9,
      minHealthyMs: 0,
      placement: { strategy: "spread" },
    };
    assert.deepEqual(planned(command, observed()).tasks[0]?.steps, [expected]);
  }
});

const clone = (more: object = {}) => checked("stitch.clone", { target: "a-1", ...more });
const SOURCE = record("n1:a-1");
const source = (over: Parameters<typeof record>[1] = {}) => new Map([["n1:a-1", record("n1:a-1", over)]]);
const cloned = (over: Partial<Observed> = {}) =>
  observed({
    nodes: [node("n1"), node("n2")],
    stitches: ["n1:a-1"],
    records: source(),
    firstNumber: 7,
    ...over,
  });

test("a clone becomes a create with the group and spec of its source, numbered from the counter, and started", () => {
  const { tasks, placements, feasible } = planned(
    clone({ timeoutMs: 9 }),
    cloned({ ofGroup: new Map([[SOURCE.group, new Map([["n1", 1]])]]) }),
  );
  assert.deepEqual(
    tasks.map((task) => [task.node, task.runs, task.refused]),
    [["n2", "node", null]],
    "spread over the group's nodes",
  );
  const { group, specHash, placement } = SOURCE;
  const made = { action: "create", stitch: "n2:orders-7", group, specHash, placement };
  const step = { ...made, start: true, timeoutMs: 9, minHealthyMs: 0 };
  assert.deepEqual([tasks[0]?.steps, feasible], [[step], true]);
  assert.deepEqual(
    placements.map(({ stitch, node: on }) => [stitch, on]),
    [["n2:orders-7", "n2"]],
  );
});

test("a clone keeps the reschedule setting of its source", () => {
  for (const reschedule of [true, false]) {
    const [step] = planned(clone(), cloned({ records: source({ spec: { ...specOf(SOURCE), reschedule } }) })).tasks[0]
      ?.steps ?? [assert.fail()];
    assert.ok(step?.action === "create" && specOf(step).reschedule === reschedule);
  }
});

for (const [said, over, more, expected] of [
  ["to a node by name", {}, { toNode: "n1" }, "n1:orders-7"],
  ["where its source's node is dead", { nodes: [node("n1", DEAD), node("n2")] }, {}, "n2:orders-7"],
  [
    "to a dead node that it waits for",
    { nodes: [node("n1", DEAD)] },
    { toNode: "n1", waitForNode: true },
    "n1:orders-7",
  ],
  ["to a dead node", { nodes: [node("n1", DEAD)] }, { toNode: "n1" }, "not_alive"],
  ["to a node that has left", { nodes: [node("n1", LEFT)] }, { toNode: "n1" }, "not_alive"],
  ["to a cordoned node", { nodes: [node("n1", { eligibility: "cordoned" })] }, { toNode: "n1" }, "cordoned"],
  ["where every node is cordoned", { nodes: [node("n1", { eligibility: "cordoned" })] }, {}, "cordoned"],
  [
    "of what no node has room for",
    { nodes: [node("n1")], records: source({ spec: { ...specOf(SOURCE), resources: { cpu: 5, memoryBytes: 0 } } }) },
    {},
    "cpu",
  ],
] as const) {
  test(`a clone ${said}: ${expected}`, () => {
    const plan = planned(clone(more), cloned(over));
    assert.equal(plan.tasks[0]?.steps[0]?.stitch ?? plan.refusals[0]?.code, expected);
    assert.equal(plan.feasible, expected.includes(":"));
  });
}

test("a clone of no stitch, of a removed one or to an unknown node is not_found; of several, ambiguous_stitch", () => {
  const none = cloned({ stitches: [], records: new Map() });
  assert.throws(() => planned(clone(), none), refusedWith("not_found"));
  assert.throws(() => planned(clone(), cloned({ records: new Map() })), refusedWith("not_found"));
  assert.throws(
    () => planned(clone(), cloned({ stitches: ["n2:a-1", "n1:a-1"], records: new Map() })),
    refusedWith("ambiguous_stitch", { candidates: ["n1:a-1", "n2:a-1"] }),
  );
  assert.throws(() => planned(clone({ toNode: "n9" }), cloned()), refusedWith("not_found"));
});

test("without older versions there is nothing to stop; without the version itself, it is not_found", () => {
  const members = (group: string) => ({ stitches: ["n1:a"], records: new Map([["n1:a", record("n1:a", { group })]]) });
  const command = checked("group.stopOldVersions", { target: "shop.orders.2" });
  const plan = planned(command, observed(members("shop.orders.2")));
  assert.deepEqual([plan.feasible, plan.tasks, plan.orchestration?.chains], [true, [], []]);
  assert.deepEqual(plan.scopes, [], "it is never busy");
  for (const group of ["shop.orders.1", "shop.orders.3"])
    assert.throws(() => planned(command, observed(members(group))), refusedWith("not_found"));
});
