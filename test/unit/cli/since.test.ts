import assert from "node:assert/strict";
import { test } from "node:test";
import { parseSince } from "../../../src/cli/options/since.ts";

const NOW_MS = Date.parse("2026-11-23T09:00:00Z");

test("since takes an id, a time with its zone, and a duration", () => {
  const cases = {
    "1795424400000-3": "1795424400000-3",
    "1795424400000": "1795424400000",
    "2026-11-23T10:30:00+01:00": "2026-11-23T09:30:00.000Z",
    "2026-11-23T09:30Z": "2026-11-23T09:30:00.000Z",
    "10m": "2026-11-23T08:50:00.000Z",
    "1.5h": "2026-11-23T07:30:00.000Z",
  };
  for (const [text, since] of Object.entries(cases)) assert.equal(parseSince(text, NOW_MS), since, text);
});

test("since refuses anything else and says what it takes", () => {
  for (const text of ["", "yesterday", "2026-11-23", "2026-11-23T09:30:00", "2026-13-01T00:00:00Z", "-10m"])
    assert.throws(() => parseSince(text, NOW_MS), /an event's id, a time such as .*Z, or a duration such as 10m/, text);
  assert.throws(() => parseSince("25d", NOW_MS), /1ms to 24d/);
});
