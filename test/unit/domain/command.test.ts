import assert from "node:assert/strict";
import { test } from "node:test";
import { COMMANDS, commandOptions } from "../../../src/domain/commands/command.ts";
import { type CommandName, isCommandName } from "../../../src/domain/commands/command-names.ts";
import { checked, CREATE } from "./observed.ts";

const NAMES = Object.keys(COMMANDS) as CommandName[];
const NEEDS: Partial<Record<CommandName, object>> = {
  "node.relabel": { labels: { disk: "ssd" } },
  "stitch.create": CREATE,
  "group.scale": { target: "shop.orders.1", count: 3 },
  "group.stopOldVersions": { target: "shop.orders.2" },
};
const bodyOf = (command: CommandName) => ({
  command,
  target: command.startsWith("node.") ? "n1" : command.startsWith("group.") ? "shop.orders" : "n1:a-1",
  ...NEEDS[command],
});
/** The paths of the fields that are wrong when `over` replaces fields of a good body. */
const wrong = (command: CommandName, over: object) =>
  COMMANDS[command].schema
    .safeParse({ ...bodyOf(command), ...over })
    .error?.issues.map((issue) => issue.path.join(".")) ?? [];
const ENVELOPE = { deadlineMs: 60_000, waitForNode: false, dryRun: false };

for (const name of NAMES) {
  test(`${name} accepts only its own name, and only its own kind of target`, () => {
    assert.deepEqual(wrong(name, {}), []);
    assert.deepEqual(wrong(name, { command: NAMES.find((each) => each !== name) }), ["command"]);
    assert.deepEqual(wrong(name, { target: undefined }), ["target"]);
    assert.deepEqual(wrong(name, { target: "-:" }), ["target"]);
  });

  test(`${name} refuses an unknown field`, () => {
    const { issues } = COMMANDS[name].schema.safeParse({ ...bodyOf(name), colour: 1 }).error ?? { issues: [] };
    assert.deepEqual(
      issues.map((issue) => [issue.code, "keys" in issue ? issue.keys : null]),
      [["unrecognized_keys", ["colour"]]],
    );
  });

  test(`${name} accepts the envelope within its limits`, () => {
    const most = {
      deadlineMs: 86_400_000,
      waitForNode: true,
      reason: "r".repeat(1000),
      dryRun: true,
      planToken: "p".repeat(128),
    };
    assert.deepEqual(wrong(name, most), []);
    for (const over of [
      { deadlineMs: 0 },
      { deadlineMs: 86_400_001 },
      { deadlineMs: 1.5 },
      { deadlineMs: "60000" },
      { waitForNode: "true" },
      { reason: "r".repeat(1001) },
      { dryRun: 1 },
      { planToken: "p".repeat(129) },
    ])
      assert.deepEqual(wrong(name, over), Object.keys(over), JSON.stringify(over).slice(0, 40));
  });
}

test("fills in the defaults", () => {
  const ping = { command: "node.ping", target: "n1" } as const;
  assert.deepEqual(COMMANDS["node.ping"].schema.parse(ping), { ...ping, ...ENVELOPE });
  const stop = { command: "stitch.stop", target: "a-1" } as const;
  assert.deepEqual(COMMANDS["stitch.stop"].schema.parse(stop), { ...stop, timeoutMs: 30_000, ...ENVELOPE });
  const restart = { command: "stitch.restart", target: "n1:a-1" } as const;
  assert.deepEqual(COMMANDS["stitch.restart"].schema.parse(restart), { ...restart, timeoutMs: 30_000, ...ENVELOPE });
  const clone = { command: "stitch.clone", target: "a-1" } as const;
  assert.deepEqual(COMMANDS["stitch.clone"].schema.parse(clone), { ...clone, timeoutMs: 30_000, ...ENVELOPE });
  const { spec: _, ...create } = checked("stitch.create", CREATE);
  assert.deepEqual(create, {
    command: "stitch.create",
    target: CREATE.target,
    count: 1,
    placement: { strategy: "spread" },
    start: true,
    timeoutMs: 30_000,
    ...ENVELOPE,
  });
});

test("a create accepts an id for one stitch, and refuses an id for several", () => {
  assert.deepEqual(wrong("stitch.create", { id: "mine" }), []);
  assert.deepEqual(wrong("stitch.create", { id: "mine", count: 1 }), []);
  assert.deepEqual(wrong("stitch.create", { id: "mine", count: 2 }), ["id"]);
  assert.deepEqual(wrong("stitch.create", { count: 1000 }), []);
});

for (const [path, over] of [
  ["target", { target: "shop.orders" }],
  ["count", { count: 0 }],
  ["count", { count: 1001 }],
  ["node", { node: "api" }],
  ["id", { id: "n1:mine" }],
  ["timeoutMs", { timeoutMs: 0 }],
  ["timeoutMs", { timeoutMs: 3_600_001 }],
  ["spec", { spec: undefined }],
  ["placement.strategy", { placement: { strategy: "random" } }],
  ["placement.zones", { placement: { zones: [] } }],
  ["placement.zones.0", { placement: { zones: [""] } }],
  ["placement.labels.disk", { placement: { labels: { disk: 1 } } }],
  ["placement.maxPerNode", { placement: { maxPerNode: 0 } }],
  ["placement", { placement: { colour: 1 } }],
] as const) {
  test(`a create refuses ${JSON.stringify(over)} and names the field`, () => {
    assert.deepEqual(wrong("stitch.create", over), [path]);
  });
}

test("a restart and a clone accept a bare or full stitch id, and a time to come up", () => {
  for (const name of ["stitch.restart", "stitch.clone"] as const) {
    for (const target of ["a-1", "n1:a-1"]) assert.deepEqual(wrong(name, { target, timeoutMs: 3_600_000 }), []);
    for (const target of ["shop.orders.1", "n1:", ":a-1", "n1:a-1:b", "A", "", "a".repeat(64)])
      assert.deepEqual(wrong(name, { target }), ["target"], target);
    for (const timeoutMs of [0, -1, 1.5, "9", null, 3_600_001])
      assert.deepEqual(wrong(name, { timeoutMs }), ["timeoutMs"], String(timeoutMs));
  }
});

test("a clone accepts toNode, but no spec, id, count or node", () => {
  assert.deepEqual(wrong("stitch.clone", { toNode: "n2" }), []);
  for (const toNode of ["api", "N2", "n1:a-1", "", null, "n".repeat(64)])
    assert.deepEqual(wrong("stitch.clone", { toNode }), ["toNode"], String(toNode));
  for (const over of [{ spec: CREATE.spec }, { id: "mine" }, { count: 2 }, { node: "n2" }])
    assert.deepEqual(wrong("stitch.clone", over), [""], Object.keys(over)[0]);
  assert.deepEqual(wrong("stitch.restart", { toNode: "n2" }), [""]);
});

test("isCommandName accepts only commands, and no property that every object has", () => {
  for (const name of NAMES) assert.ok(isCommandName(name));
  for (const other of ["", "node.Ping", "stitch", "toString", "constructor", "__proto__"])
    assert.equal(isCommandName(other), false);
});

test("a job shows its command's own options, and of the envelope only waitForNode", () => {
  const envelope = { deadlineMs: 5, reason: "r", dryRun: true, planToken: "p" };
  assert.deepEqual(commandOptions(checked("node.ping", { target: "n1", ...envelope })), {});
  assert.deepEqual(commandOptions(checked("stitch.stop", { target: "a", ...envelope, waitForNode: true })), {
    timeoutMs: 30_000,
    waitForNode: true,
  });
  assert.deepEqual(commandOptions(checked("stitch.restart", { target: "a", ...envelope })), { timeoutMs: 30_000 });
  assert.deepEqual(commandOptions(checked("stitch.clone", { target: "a", ...envelope, toNode: "n2" })), {
    timeoutMs: 30_000,
    toNode: "n2",
  });
  const create = checked("stitch.create", { ...CREATE, ...envelope, node: "n1" });
  const { spec, placement } = create;
  assert.deepEqual(commandOptions(create), { spec, placement, count: 1, node: "n1", start: true, timeoutMs: 30_000 });
});
