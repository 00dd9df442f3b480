import assert from "node:assert/strict";
import { test } from "node:test";
import { type AssignmentEnd, assignmentEndsIn, assignmentsIn } from "../../../src/domain/job/assignment.ts";
import type { FoldedStep, FoldedTask } from "../../../src/domain/job/fold.ts";
import type { StitchStep } from "../../../src/domain/job/job.ts";
import { oneTask } from "../../../src/domain/planning/planned.ts";
import type { StepOutcome } from "../../../src/domain/stitch/stitch.ts";
import { outcome } from "./simulated-node.ts";

const create = (stitch: string, over: Partial<Extract<StitchStep, { action: "create" }>> = {}): StitchStep => ({
  action: "create",
  stitch,
  group: "shop.web.1",
  specHash: "a".repeat(64),
  start: true,
  timeoutMs: 1,
  ...over,
});
const JOB = { revision: 7 };

test("a create assigns its spec to its id, with a new born or the one that it names; other steps assign nothing", () => {
  const zones = { strategy: "spread" as const, zones: ["a"] };
  const tasks = [
    {
      ...oneTask("t0", "n1", "node", [create("n1:a"), { action: "stop", stitch: "n1:c", timeoutMs: 1 }], null),
      wave: 2,
    },
    oneTask("t1", "n2", "node", [create("n2:a", { born: "3.0", placement: zones })], null),
    oneTask("t2", "n1", "node", [create("n1:b")], null),
  ];
  const found = assignmentsIn(JOB, tasks);
  const of = { specHash: "a".repeat(64), group: "shop.web.1" };
  const spread = { strategy: "spread" };
  assert.deepEqual([...found.keys()], ["n1", "n2"]);
  assert.deepEqual(Object.fromEntries(found.get("n1") ?? []), {
    a: { ...of, placement: spread, born: "7.2", placed: "7.2" },
    b: { ...of, placement: spread, born: "7.0", placed: "7.0" },
  });
  assert.deepEqual(Object.fromEntries(found.get("n2") ?? []), {
    a: { ...of, placement: zones, born: "3.0", placed: "7.0" },
  });
});

type Status = FoldedStep["status"];

function endsOf(step: StitchStep, status: Status, told: StepOutcome | null): AssignmentEnd[] {
  const task = { ...oneTask("t0", "n1", "node", [step], null), wave: 1 };
  const folded: FoldedTask = { task, status, steps: [{ step, status, outcome: told, error: null }] };
  return assignmentEndsIn(JOB, [folded]).get("n1") ?? [];
}

test("an assignment ends if its create did not happen or its stitch was removed; never if the outcome is unknown", () => {
  const remove: StitchStep = { action: "remove", stitch: "n1:a", timeoutMs: 1 };
  const created = { stitch: "a", created: "7.1" };
  const removed = (born: string | null) => ({ stitch: "a", removed: "7.1", born });
  const done = outcome("succeeded", true);
  const was = outcome("succeeded", false);
  const notUp = outcome("failed", true, { code: "exited_early", message: "it exited" });
  const refused = outcome("failed", false, { code: "internal", message: "another was faster" });
  for (const [step, status, told, expected] of [
    [create("n1:a"), "succeeded", done, []],
    [create("n1:a"), "failed", notUp, []],
    [create("n1:a"), "failed", refused, [created]],
    [create("n1:a"), "superseded", null, [created]],
    [create("n1:a"), "cancelled", null, [created]],
    [create("n1:a"), "expired", null, [created]],
    [create("n1:a"), "unknown", null, []],
    [remove, "succeeded", done, [removed(null)]],
    [{ ...remove, born: "3.0" }, "succeeded", done, [removed("3.0")]],
    [remove, "succeeded", was, []],
    [remove, "failed", refused, []],
    [remove, "unknown", null, []],
    [{ ...remove, action: "stop" }, "succeeded", done, []],
  ] as const)
    assert.deepEqual(endsOf(step, status, told), expected, `${step.action} ${status}`);
});
