import assert from "node:assert/strict";
import { test } from "node:test";
import { inCliWords } from "../../../src/cli/terminal/cli-words.ts";
import { failureLines } from "../../../src/cli/terminal/job-text.ts";
import { job } from "./canned-api.ts";

test("replaces the terms of the HTTP API by what the user types on the command line", () => {
  const cases = {
    'There is no group "shop"; GET /v1/groups lists them.': 'There is no group "shop"; stitch groups lists them.',
    'n1 is dead; start its worker again, or send the command with "waitForNode": true':
      "n1 is dead; start its worker again, or add --wait-for-node",
    "create the first one with stitch.create.": "create the first one with stitch run.",
    "node.uncordon lets the node take stitches again, and group.rebalance spreads them":
      "stitch uncordon lets the node take stitches again, and stitch rebalance spreads them",
    "This Idempotency-Key was used for another stitch.remove; use a new key":
      "This --key was used for another stitch rm; use a new key",
    "toNode: a node id is …": "--to: a node id is …",
    "placement.zones: must not be empty": "--zone: must not be empty",
  };
  for (const [said, words] of Object.entries(cases)) assert.equal(inCliWords(said), words);
});

test("leaves names that the user chose as they are", () => {
  for (const text of ['no stitch in the group "node.drain"', "n1:stitch.stop is gone", "group.stop.2", "my-toNode"])
    assert.equal(inCliWords(text), text);
});

test("the errors of failed steps use the command line's terms, too", () => {
  const error = {
    code: "node_dead",
    message: 'n1 is dead; start it, or send the command with "waitForNode": true',
  } as const;
  const tasks = job("failed").tasks.map((task) => ({ ...task, steps: task.steps.map((step) => ({ ...step, error })) }));
  assert.match(failureLines(job("failed", { tasks })).join("\n"), /n1 is dead; start it, or add --wait-for-node$/);
});
