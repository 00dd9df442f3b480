import assert from "node:assert/strict";
import { test } from "node:test";
import { FirstAndLastLines } from "../../../workers/node/adaptors/first-and-last-lines.ts";

const kept = (lines: readonly string[]): string[] => {
  const some = new FirstAndLastLines();
  for (const line of lines) some.push(line);
  return some.text.split("\n");
};
const numbered = (many: number) => Array.from({ length: many }, (_, index) => `line ${index}`);

test("keeps all of a few lines", () => {
  assert.equal(new FirstAndLastLines().text, "");
  assert.deepEqual(kept(numbered(20)), numbered(20));
});

test("keeps the first ten and the last ten of many lines, and says how many are left out", () => {
  const lines = numbered(1000);
  assert.deepEqual(kept(lines), [...lines.slice(0, 10), "… 980 lines left out", ...lines.slice(-10)]);
});

test("a line of minified code does not push out the line that says why", () => {
  const lines = kept(["/app.js:1", "x".repeat(100_000), "", "Error: no port is set", ...numbered(50)]);
  assert.ok(lines.includes("Error: no port is set"));
  assert.ok(lines.join("\n").length < 4200);
});

test("keeps a bounded amount, whatever is printed", () => {
  for (const length of [0, 1, 399, 400, 5000]) {
    const text = kept(Array.from({ length: 5000 }, () => "y".repeat(length))).join("\n");
    assert.ok(text.length < 4200, `${length}: ${text.length}`);
  }
});
