import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { jsonSize } from "../../../src/domain/json/json-size.ts";

const NO_BOUND = { depth: Number.POSITIVE_INFINITY, tokens: Number.POSITIVE_INFINITY };

for (const [text, depth, tokens] of [
  ["1", 0, 0],
  ['"a,b:[{"', 0, 1],
  ["[]", 1, 1],
  ["[1,2,3]", 1, 3],
  ['{"a":1,"b":[{}]}', 3, 8],
  ['["\\"[,","\\\\",[]]', 2, 6],
  ['"[[[', 0, 1],
  ['"\\', 0, 1],
  ["]]][", 0, 1],
] as const)
  test(`counts ${text}`, () => {
    assert.deepEqual(jsonSize(text, NO_BOUND), { depth, tokens });
  });

test("a value has as many tokens as strings, brackets, commas and colons, however it is formatted", () => {
  const sizeOf = (value: unknown): { depth: number; tokens: number } => {
    if (typeof value === "string") return { depth: 0, tokens: 1 };
    if (typeof value !== "object" || value === null) return { depth: 0, tokens: 0 };
    const inner = Object.values(value).map(sizeOf);
    const names = Array.isArray(value) ? 0 : 2 * inner.length;
    const commas = Math.max(0, inner.length - 1);
    return {
      depth: 1 + Math.max(0, ...inner.map(({ depth }) => depth)),
      tokens: 1 + commas + names + inner.reduce((sum, { tokens }) => sum + tokens, 0),
    };
  };
  fc.assert(
    fc.property(fc.jsonValue(), fc.constantFrom(undefined, 2), (value, indent) => {
      assert.deepEqual(jsonSize(JSON.stringify(value, null, indent), NO_BOUND), sizeOf(value));
    }),
  );
});

test("reads nothing beyond the limit", () => {
  assert.equal(jsonSize(`[${"1,".repeat(2_000_000)}1]`, { depth: 10, tokens: 4000 }).tokens, 4001);
  assert.deepEqual(jsonSize("[".repeat(2_000_000), { depth: 10, tokens: 4000 }), { depth: 11, tokens: 11 });
});
