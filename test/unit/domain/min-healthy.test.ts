import assert from "node:assert/strict";
import { test } from "node:test";
import { wellBeforeReplacingMs, wellForMs } from "../../../src/domain/job/min-healthy.ts";
import { deadlineOf, planCommand } from "../../../src/domain/commands/plan.ts";
import { leastDurationMs } from "../../../src/domain/planning/planned.ts";
import { stitchSpec } from "../../../src/domain/stitch/spec.ts";
import { checked, CREATE, observed, record, withStitches } from "./observed.ts";

const spec = (more: object) => stitchSpec.parse({ adaptor: "process", command: ["x"], ...more });
const SILENT = { protocol: "none" };
const GROUP = { target: CREATE.target };

for (const [said, of, askedMs, added, replacing] of [
  ["answers heartbeats", spec({}), undefined, 0, 5000],
  ["answers none", spec(SILENT), undefined, 1000, 5000],
  ["answers none, and has a check", spec({ ...SILENT, check: { tcp: { port: 1 } } }), undefined, 0, 5000],
  ["says so itself", spec({ ...SILENT, minHealthyMs: 20 }), undefined, 20, 20],
  ["was told by the command", spec({ minHealthyMs: 20 }), 0, 20, 0],
] as const) {
  test(`a stitch that ${said} must be healthy for ${added} ms if added, and for ${replacing} ms if it replaces another`, () => {
    assert.deepEqual([wellForMs(of), wellBeforeReplacingMs(of, askedMs)], [added, replacing]);
  });
}

const MANY = Array.from({ length: 1000 }, (_, index) => `n1:s${index}`);
const seen = observed(withStitches(new Map(MANY.map((id) => [id, record(id)]))));

test("the least duration of a plan is the healthy time once per batch, because a batch runs in parallel", () => {
  const least = (more: object) => leastDurationMs(planCommand(checked("group.restart", { ...GROUP, ...more }), seen));
  assert.equal(least({ batch: 1 }), 5_000_000);
  assert.equal(least({ batch: 250 }), 20_000);
  assert.equal(least({ batch: 250, minHealthyMs: 10 }), 40);
});

test("a long command has an hour, or twice its least duration; a drain has its time to force plus a minute", () => {
  const inMs = (command: Parameters<typeof deadlineOf>[0]) => deadlineOf(command, planCommand(command, seen));
  assert.equal(inMs(checked("group.restart", { ...GROUP, batch: 100 })), 3_600_000);
  assert.equal(inMs(checked("group.restart", GROUP)), 10_000_000);
  assert.equal(inMs(checked("group.restart", { ...GROUP, deadlineMs: 5 })), 5);
  assert.equal(inMs(checked("node.drain", { target: "n1", minHealthyMs: 0 })), 3_660_000);
  assert.equal(inMs(checked("node.drain", { target: "n1", minHealthyMs: 0, forceAfterMs: 7_200_000 })), 7_260_000);
});
