import assert from "node:assert/strict";
import { test } from "node:test";
import { healthOf, shownHealth } from "../../../src/domain/stitch/health.ts";

for (const [missed, health] of [
  [0, "green"],
  [1, "green"],
  [2, "yellow"],
  [5, "yellow"],
  [6, "red"],
  [1000, "red"],
] as const) {
  test(`${missed} heartbeats missed in a row: ${health}; missing if it never answered`, () => {
    assert.equal(healthOf(missed, true), health);
    assert.equal(healthOf(missed, false), "missing");
  });
}

const SHOWN = { health: "green", healthySinceMs: 5 } as const;
for (const [state, isDead, health, healthySinceMs] of [
  ["running", false, "green", 5],
  ["stopping", false, "green", 5],
  ["starting", false, "missing", null],
  ["backoff", false, "missing", null],
  ["failed", false, "missing", null],
  ["stopped", false, null, null],
  ["running", true, null, null],
  ["starting", true, null, null],
  ["failed", true, null, null],
] as const) {
  test(`the health of a stitch that is ${state}${isDead ? " on a dead node" : ""} is shown as ${health}`, () => {
    assert.deepEqual(shownHealth({ ...SHOWN, state }, isDead), { health, healthySinceMs });
  });
}

test("a stitch that is not green has no healthySinceMs", () => {
  const shown = shownHealth({ state: "running", health: "yellow", healthySinceMs: 5 }, false);
  assert.deepEqual(shown, { health: "yellow", healthySinceMs: null });
});
