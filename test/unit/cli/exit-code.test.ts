import assert from "node:assert/strict";
import { test } from "node:test";
import { exitCodeOfJob } from "../../../src/cli/terminal/exit-code.ts";

const AT = "2026-11-23T09:00:00.000Z";

test("a job's exit code is 0 after success, 3 after any other end, and 5 if the job has not ended", () => {
  assert.equal(exitCodeOfJob({ status: "succeeded", finishedAt: AT }), 0);
  for (const status of ["failed", "partial", "cancelled", "expired"] as const) {
    assert.equal(exitCodeOfJob({ status, finishedAt: AT }), 3, status);
  }
  for (const status of ["pending", "running", "cancelling"] as const) {
    assert.equal(exitCodeOfJob({ status, finishedAt: null }), 5, status);
  }
});
