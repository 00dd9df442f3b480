import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { LineSplitter, MAX_LINE_BYTES, textOf } from "../../../workers/node/protocol/line-splitter.ts";
import { cutAt, cuts } from "./cut-streams.ts";

function linesIn(chunks: readonly Uint8Array[]): string[] {
  const splitter = new LineSplitter(MAX_LINE_BYTES);
  const lines: string[] = [];
  const take = (found: Parameters<typeof textOf>[0]) => lines.push(textOf(found, MAX_LINE_BYTES));
  // The bytes of a line are lent only until the next line is asked for.
  for (const chunk of chunks) for (const line of splitter.push(chunk)) take(line);
  for (const line of splitter.end()) take(line);
  return lines;
}

test("lines are the same wherever the stream is cut, also within a character or a CR LF", () => {
  const line = fc.string({ unit: fc.constantFrom("a", "é", "🧵", "\r", "\u2028", " "), maxLength: 6 });
  fc.assert(
    fc.property(fc.array(line), fc.constantFrom("\n", "\r\n"), line, cuts, (whole, end, rest, places) => {
      const bytes = Buffer.from(`${whole.map((one) => one + end).join("")}${rest}`);
      const expected = [...whole.map((one) => (end === "\n" ? one.replace(/\r$/, "") : one)), rest.replace(/\r$/, "")];
      assert.deepEqual(linesIn(cutAt(bytes, places)), rest === "" ? expected.slice(0, -1) : expected);
    }),
  );
});

test("bytes that are not UTF-8 become U+FFFD", () => {
  assert.deepEqual(linesIn([Buffer.from([0x61, 0xff, 0x62, 10, 0xc3]), Buffer.from([10, 0xe2, 0x82])]), [
    "a\uFFFDb",
    "\uFFFD",
    "\uFFFD",
  ]);
});

test("a line is cut at 64 KiB between two characters, and its rest is dropped", () => {
  const long = "é".repeat(MAX_LINE_BYTES);
  const fitting = "é".repeat(MAX_LINE_BYTES / 2);
  const half = "é".repeat(MAX_LINE_BYTES / 2 - 1);
  const bytes = Buffer.from(`${long}\nx${long}\n${fitting}\nlast`);
  for (const places of [[], [1], [10, 11, MAX_LINE_BYTES - 1, MAX_LINE_BYTES, 3 * MAX_LINE_BYTES]])
    assert.deepEqual(linesIn(cutAt(bytes, places)), [fitting, `x${half}`, fitting, "last"]);
});
