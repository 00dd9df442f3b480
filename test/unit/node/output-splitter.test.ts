import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { textOf } from "../../../workers/node/protocol/line-splitter.ts";
import { type OutputLine, OutputSplitter } from "../../../workers/node/adaptors/output-splitter.ts";
import { cutAt, cuts } from "./cut-streams.ts";

const LIMIT = 100;
const PAUSE = "pause";

/** The pieces. A piece that is continued ends with `…`; a piece that was cut ends with the number of missing bytes. */
function piecesOf(parts: readonly (string | Uint8Array)[]): string[] {
  const splitter = new OutputSplitter(LIMIT);
  const pieces: string[] = [];
  const take = (line: OutputLine) =>
    pieces.push(textOf(line, LIMIT) + (line.continued ? "…" : "") + (line.dropped > 0 ? ` -${line.dropped}` : ""));
  for (const part of parts)
    for (const line of part === PAUSE ? splitter.pause() : splitter.push(Buffer.from(part))) take(line);
  for (const line of splitter.end()) take(line);
  return pieces;
}

for (const [what, parts, expected] of [
  ["LF, CR LF and CR each end a line once", ["a\nb\r\nc\rd"], ["a", "b", "c", "d"]],
  ["a CR LF that is cut in two is one end", ["a\r", "\nb\n"], ["a", "b"]],
  ["a CR CR LF, as some terminals make of it, is one end", ["a\r\r\nb\n"], ["a", "b"]],
  ["empty lines are lines", ["\n\r\n\na\n\n"], ["", "", "", "a", ""]],
  ["a CR at the beginning of a line only moves the cursor", ["\r10 %\r\r20 %\r", "\r30 %\n"], ["10 %", "20 %", "30 %"]],
  ["a line that waits is handed out, and gone on with", ["name? ", PAUSE, "joe\nok\n"], ["name? …", "joe", "ok"]],
  ["a line that waits and then only ends is closed", ["name? ", PAUSE, "\nok"], ["name? …", "", "ok"]],
  ["so it is by a CR LF, which is one end", ["name? ", PAUSE, "\r\nok"], ["name? …", "", "ok"]],
  ["a pause with nothing unfinished hands out nothing", [PAUSE, "a\n", PAUSE, "b\r", PAUSE, "\nc"], ["a", "b", "c"]],
  ["two pauses hand out a line in three", ["a", PAUSE, "b", PAUSE, PAUSE, "c\n"], ["a…", "b…", "c"]],
  [
    "a character is not cut in two by a pause",
    [Buffer.from([0x61, 0xf0, 0x9f]), PAUSE, PAUSE, Buffer.from([0xa7, 0xb5, 10])],
    ["a…", "🧵"],
  ],
  ["what is no UTF-8 is handed out all the same", [Buffer.from([0x61, 0xff]), PAUSE, "b\n"], ["a\uFFFD…", "b"]],
  [
    "a line longer than the limit is cut, and says by how much",
    ["x".repeat(130), "y\nz\n"],
    [`${"x".repeat(100)} -31`, "z"],
  ],
  ["so does one that waits", ["x".repeat(130), PAUSE, "y\n"], [`${"x".repeat(100)}… -30`, "y"]],
] as const)
  test(what, () => assert.deepEqual(piecesOf(parts), expected));

test("lines are the same wherever the stream is cut", () => {
  const word = fc.string({ unit: fc.constantFrom("a", "é", "🧵", "\r", "\n"), maxLength: 40 });
  fc.assert(
    fc.property(word, cuts, (text, places) => {
      assert.deepEqual(piecesOf(cutAt(Buffer.from(text), places)), piecesOf([text]));
    }),
  );
});

test("property: whatever comes, and whenever the stream pauses, no character is lost", () => {
  const part = fc.oneof(
    fc.constant(PAUSE),
    fc.string({ unit: fc.constantFrom("a", "é", "🧵", "\r", "\n"), maxLength: 8 }),
  );
  fc.assert(
    fc.property(fc.array(part, { maxLength: 12 }), (parts) => {
      const text = parts.filter((one) => one !== PAUSE).join("");
      fc.pre(Buffer.byteLength(text) <= LIMIT);
      assert.equal(piecesOf(parts).join("").replaceAll("…", ""), text.replaceAll(/[\r\n]/g, ""));
    }),
  );
});

test("a chunk of only line ends costs no more than its length", () => {
  const splitter = new OutputSplitter(LIMIT);
  const sinceMs = performance.now();
  for (const end of ["\r", "a\r", "\n", "a\r\n"])
    for (const _ of splitter.push(Buffer.from(end.repeat(500_000)))) continue;
  assert.ok(performance.now() - sinceMs < 5000);
});
