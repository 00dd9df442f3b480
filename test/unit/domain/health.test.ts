import assert from "node:assert/strict";
import { test } from "node:test";
import { healthOf } from "../../../src/domain/health.ts";

for (const [missed, health] of [
  [0, "green"],
  [1, "green"],
  [2, "yellow"],
  [5, "yellow"],
  [6, "red"],
  [1000, "red"],
] as const) {
  test(`${missed} heartbeats missed in a row: ${health}; missing where it was never heard from`, () => {
    assert.equal(healthOf(missed, true), health);
    assert.equal(healthOf(missed, false), "missing");
  });
}
