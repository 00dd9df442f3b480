import assert from "node:assert/strict";
import { test } from "node:test";
import { createOptions } from "../../../src/cli/options/run-options.ts";
import { UsageError } from "../../../src/cli/terminal/usage-error.ts";

test("a flag adds to a part of the spec file, and refuses a part that is no object", () => {
  const file = (spec: object) => JSON.stringify({ adaptor: "process", command: ["x"], ...spec });
  const flags = { env: { B: "2" }, restart: "always" as const };
  const { spec } = createOptions(flags, [], file({ env: { A: "1" }, restart: { maxRestarts: 3 } }));
  assert.deepEqual(spec, {
    adaptor: "process",
    command: ["x"],
    env: { A: "1", B: "2" },
    restart: { maxRestarts: 3, policy: "always" },
  });
  const checked = createOptions({ check: { tcp: { port: 1 } } }, [], file({ check: { exec: ["x"], redAfter: 5 } }));
  assert.deepEqual(checked["spec"], { adaptor: "process", command: ["x"], check: { tcp: { port: 1 }, redAfter: 5 } });
  assert.throws(() => createOptions({ check: { tcp: { port: 1 } } }, [], file({ check: "tcp:1" })), UsageError);
  for (const wrong of [{ env: "A=1" }, { env: ["A=1"] }, { restart: "always" }])
    assert.throws(() => createOptions(flags, [], file(wrong)), UsageError);
});
