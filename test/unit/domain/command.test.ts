import assert from "node:assert/strict";
import { test } from "node:test";
import { COMMANDS, type CommandName, commandOptions, isCommandName } from "../../../src/domain/command.ts";
import { checked, CREATE } from "./observed.ts";

const NAMES = Object.keys(COMMANDS) as CommandName[];
const bodyOf = (command: CommandName) =>
  command === "stitch.create"
    ? { command, ...CREATE }
    : { command, target: command.startsWith("node.") ? "n1" : command.startsWith("group.") ? "shop.orders" : "n1:a-1" };
/** The paths that are wrong with the body, laid over a good one. */
const wrong = (command: CommandName, over: object) =>
  COMMANDS[command].safeParse({ ...bodyOf(command), ...over }).error?.issues.map((issue) => issue.path.join(".")) ?? [];
const ENVELOPE = { deadlineMs: 60_000, waitForNode: false, dryRun: false };

for (const name of NAMES) {
  test(`${name} takes a body of its own name and target alone, and no other name`, () => {
    assert.deepEqual(wrong(name, {}), []);
    assert.deepEqual(wrong(name, { command: NAMES.find((each) => each !== name) }), ["command"]);
    assert.deepEqual(wrong(name, { target: undefined }), ["target"]);
    assert.deepEqual(wrong(name, { target: "-:" }), ["target"]);
  });

  test(`${name} refuses a field that is not known`, () => {
    const { issues } = COMMANDS[name].safeParse({ ...bodyOf(name), colour: 1 }).error ?? { issues: [] };
    assert.deepEqual(
      issues.map((issue) => [issue.code, "keys" in issue ? issue.keys : null]),
      [["unrecognized_keys", ["colour"]]],
    );
  });

  test(`${name} takes the envelope within its bounds`, () => {
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

test("defaults are filled in", () => {
  const ping = { command: "node.ping", target: "n1" } as const;
  assert.deepEqual(COMMANDS["node.ping"].parse(ping), { ...ping, ...ENVELOPE });
  const stop = { command: "stitch.stop", target: "a-1" } as const;
  assert.deepEqual(COMMANDS["stitch.stop"].parse(stop), { ...stop, timeoutMs: 30_000, ...ENVELOPE });
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

test("a create takes an id for one stitch, and refuses it beside a count", () => {
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
  test(`a create refuses ${JSON.stringify(over)}, and says where`, () => {
    assert.deepEqual(wrong("stitch.create", over), [path]);
  });
}

test("only the commands are commands, and nothing that every object has", () => {
  for (const name of NAMES) assert.ok(isCommandName(name));
  for (const other of ["", "node.Ping", "stitch", "toString", "constructor", "__proto__"])
    assert.equal(isCommandName(other), false);
});

test("a job shows the command's own options, and of the envelope only that it waits", () => {
  const envelope = { deadlineMs: 5, reason: "r", dryRun: true, planToken: "p" };
  assert.deepEqual(commandOptions(checked("node.ping", { target: "n1", ...envelope })), {});
  assert.deepEqual(commandOptions(checked("stitch.stop", { target: "a", ...envelope, waitForNode: true })), {
    timeoutMs: 30_000,
    waitForNode: true,
  });
  const create = checked("stitch.create", { ...CREATE, ...envelope, node: "n1" });
  const { spec, placement } = create;
  assert.deepEqual(commandOptions(create), { spec, placement, count: 1, node: "n1", start: true, timeoutMs: 30_000 });
});
