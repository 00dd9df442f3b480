import assert from "node:assert/strict";
import { test } from "node:test";
import { commandBody } from "../../../src/cli/options/command-body.ts";
import { namesGroup } from "../../../src/cli/calls/names-group.ts";
import { createOptions } from "../../../src/cli/options/run-options.ts";
import { UsageError } from "../../../src/cli/terminal/usage-error.ts";

test("sends only the options that were given", () => {
  assert.deepEqual(commandBody("node.ping", "n1", {}), { command: "node.ping", target: "n1" });
  assert.deepEqual(
    commandBody("stitch.stop", "orders-1", { reason: "why", waitForNode: true, deadline: 9000, plan: "tok" }),
    {
      command: "stitch.stop",
      target: "orders-1",
      reason: "why",
      waitForNode: true,
      deadlineMs: 9000,
      planToken: "tok",
    },
  );
});

test("a dot in the target means a group, and so does --group", () => {
  assert.equal(namesGroup("shop.orders", {}), true);
  assert.equal(namesGroup("shop", { group: true }), true);
  assert.equal(namesGroup("shop", {}), false);
  assert.equal(namesGroup("n1:orders-1", {}), false);
});

test("run: a program without flags becomes a process spec with protocol none", () => {
  assert.deepEqual(createOptions({}, ["node", "w.js"], null), {
    spec: { adaptor: "process", command: ["node", "w.js"], protocol: "none" },
  });
});

test("run: every flag goes to its field", () => {
  const flags = {
    count: 2,
    node: "n1",
    id: "w-1",
    env: { A: "1" },
    zone: ["a"],
    label: { disk: "ssd" },
    strategy: "binpack" as const,
    restart: "never",
    protocol: "process-v1",
  };
  assert.deepEqual(createOptions(flags, ["x"], null), {
    spec: {
      adaptor: "process",
      command: ["x"],
      env: { A: "1" },
      protocol: "process-v1",
      restart: { policy: "never" },
    },
    count: 2,
    node: "n1",
    id: "w-1",
    placement: { strategy: "binpack", zones: ["a"], labels: { disk: "ssd" } },
  });
});

test("run: flags replace fields of the spec file and keep its other fields", () => {
  const file = JSON.stringify({
    adaptor: "process",
    command: ["a"],
    env: { A: "1", B: "2" },
    protocol: "process-v1",
    restart: { policy: "always", maxRestarts: 9 },
    stopGraceMs: 1,
  });
  assert.deepEqual(createOptions({ env: { B: "3" }, restart: "never" }, [], file), {
    spec: {
      adaptor: "process",
      command: ["a"],
      env: { A: "1", B: "3" },
      protocol: "process-v1",
      restart: { policy: "never", maxRestarts: 9 },
      stopGraceMs: 1,
    },
  });
  assert.deepEqual(createOptions({}, [], '{"adaptor":"module","module":"m"}'), {
    spec: { adaptor: "module", module: "m" },
  });
});

test("run: refuses an empty command, and a spec file that holds no spec", () => {
  assert.throws(() => createOptions({}, [], null), UsageError);
  for (const file of ["", "{", "[]", "null", '"x"']) assert.throws(() => createOptions({}, [], file), UsageError, file);
});
