import assert from "node:assert/strict";
import { test } from "node:test";
import { failureLines, jobLine, progressText } from "../../../src/cli/terminal/job-text.ts";
import type { StepStatus } from "../../../src/domain/job/job-status.ts";
import type { StepResource, TaskResource } from "../../../src/contract/job.ts";
import { job } from "./canned-api.ts";

function task(node: string, ...statuses: StepStatus[]): TaskResource {
  const steps = statuses.map(
    (status, index): StepResource => ({
      action: "stop",
      stitch: `${node}:s-${index}`,
      status,
      changed: null,
      startedAt: null,
      finishedAt: null,
      output: null,
      error: status === "failed" ? { code: "internal", message: "it broke" } : null,
    }),
  );
  return { id: node, node, status: "running", attempt: 1, steps };
}

test("a job fits on one line; a running job has no time", () => {
  assert.equal(jobLine(job("succeeded")), "stitch.start n1:orders-1: succeeded, 1 of 1, 250 ms");
  assert.equal(jobLine(job("running")), "stitch.start n1:orders-1: running, 0 of 1");
});

test("names each step that ended without success, and no others", () => {
  const tasks = [task("n1", "succeeded", "failed", "pending"), task("n2", "superseded", "running", "unknown")];
  assert.deepEqual(failureLines(job("failed", { tasks })), [
    "n1:s-1: stop failed: internal: it broke",
    "n2:s-0: stop superseded",
    "n2:s-2: stop unknown",
  ]);
});

test("shows the job's own error first, and says where the rest of a cut list is", () => {
  const error = { code: "expired", message: "the deadline passed" } as const;
  const lines = failureLines(job("failed", { tasks: [], error, truncated: true }));
  assert.equal(lines[0], "expired: the deadline passed");
  assert.match(lines[1] ?? "", /\/v1\/jobs\/j.*\/steps/);
});

test("shows all that was kept of stderr, because the first lines may hold the reason", () => {
  const stderrTail = Array.from({ length: 21 }, (_, line) => `line ${line}`).join("\n");
  const [first] = task("n1", "failed").steps;
  assert.ok(first);
  const steps = [{ ...first, error: { code: "exited_early", message: "m", stderrTail } as const }];
  const lines = failureLines(job("failed", { tasks: [{ ...task("n1"), steps }] }));
  assert.deepEqual([lines.length, lines[1], lines.at(-1)], [22, "  | line 0", "  | line 20"]);
});

test("progress shows counts per node; of many nodes, those with open steps come first", () => {
  const counts = { ...job("running").counts, total: 3, pending: 1, running: 1, succeeded: 1 };
  const two = [task("n1", "succeeded", "running"), task("n2", "pending")];
  assert.equal(progressText(job("running", { counts, tasks: two })), "1/3  n1 1/2  n2 0/1");
  const many = "a b c d e f g h i".split(" ").map((node) => task(node, node === "h" ? "pending" : "succeeded"));
  assert.equal(
    progressText(job("running", { counts, tasks: many })),
    "1/3  h 0/1  a 1/1  b 1/1  c 1/1  d 1/1  e 1/1  and 3 nodes more",
  );
});

test("progress of several waves shows the wave, and each node once, however many tasks it has", () => {
  const counts = { ...job("running").counts, total: 4, pending: 2, running: 1, succeeded: 1 };
  const tasks = [task("n1", "succeeded"), task("n2", "running"), task("n1", "pending"), task("n2", "pending")];
  const progress = { wave: 2, waves: 3, message: "1 of 4 restarted" };
  assert.equal(progressText(job("running", { counts, tasks, progress })), "wave 2 of 3  1/4  n1 1/2  n2 0/2");
});

test("shows the error of a job once if one of its steps has the same error", () => {
  const error = { code: "internal", message: "it broke" } as const;
  const lines = failureLines(job("failed", { tasks: [task("n1", "failed")], error }));
  assert.deepEqual(lines, ["n1:s-0: stop failed: internal: it broke"]);
});

test("steps that never began for the same reason share one line, after the failed steps", () => {
  const ahead = (node: string, message: string) => {
    const steps = task(node, "cancelled", "cancelled").steps;
    return { ...task(node), steps: steps.map((step) => ({ ...step, error: { code: "cancelled" as const, message } })) };
  };
  const tasks = [ahead("n1", "not begun: a failed"), task("n2", "failed"), ahead("n3", "not begun: a failed")];
  assert.deepEqual(failureLines(job("failed", { tasks })), [
    "n2:s-0: stop failed: internal: it broke",
    "n1:s-0: stop cancelled, and 3 steps more: not begun: a failed",
  ]);
});
