import assert from "node:assert/strict";
import { test } from "node:test";
import { formatDuration, parseDuration } from "../../../src/cli/terminal/duration.ts";

test("reads durations with a unit", () => {
  const cases = {
    "500ms": 500,
    "30s": 30_000,
    "5m": 300_000,
    "1.5h": 5_400_000,
    "2d": 172_800_000,
    "24d": 2_073_600_000,
  };
  for (const [text, ms] of Object.entries(cases)) assert.equal(parseDuration(text), ms, text);
});

test("refuses a duration without a unit or number, an empty one and one that is too long", () => {
  for (const text of ["", "5", "m", "-5s", "5 m", "1m30s", "5y", "0s", "25d", "1e3s", "Infinitys", "999999999999d"]) {
    assert.throws(() => parseDuration(text), { code: "commander.invalidArgument" }, text);
  }
});

test("formats durations for people", () => {
  const cases = [
    [-5, "0 ms"],
    [180.4, "180 ms"],
    [2400, "2.4 s"],
    [303_000, "5m 3s"],
    [7_800_000, "2h 10m"],
    [273_600_000, "3d 4h"],
  ] as const;
  for (const [ms, text] of cases) assert.equal(formatDuration(ms), text);
});
