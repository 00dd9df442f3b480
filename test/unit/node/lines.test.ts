import assert from "node:assert/strict";
import { EventEmitter, once } from "node:events";
import { PassThrough, Readable } from "node:stream";
import { test } from "node:test";
import fc from "fast-check";
import { MAX_LINE_BYTES, readLines } from "../../../workers/node/adaptors/lines.ts";
import { cutAt, cuts } from "./cut-streams.ts";

async function linesIn(chunks: readonly Uint8Array[]): Promise<string[]> {
  const lines: string[] = [];
  await readLines(Readable.from(chunks), (line) => {
    lines.push(line);
    return null;
  });
  return lines;
}

test("lines are the same wherever the stream is cut, also within a character or a CR LF", async () => {
  const line = fc.string({ unit: fc.constantFrom("a", "é", "🧵", "\r", "\u2028", " "), maxLength: 6 });
  await fc.assert(
    fc.asyncProperty(fc.array(line), fc.constantFrom("\n", "\r\n"), line, cuts, async (whole, end, rest, places) => {
      const bytes = Buffer.from(`${whole.map((one) => one + end).join("")}${rest}`);
      const expected = [...whole.map((one) => (end === "\n" ? one.replace(/\r$/, "") : one)), rest.replace(/\r$/, "")];
      assert.deepEqual(await linesIn(cutAt(bytes, places)), rest === "" ? expected.slice(0, -1) : expected);
    }),
  );
});

test("what is no UTF-8 becomes U+FFFD", async () => {
  assert.deepEqual(await linesIn([Buffer.from([0x61, 0xff, 0x62, 10, 0xc3]), Buffer.from([10, 0xe2, 0x82])]), [
    "a\uFFFDb",
    "\uFFFD",
    "\uFFFD",
  ]);
});

test("a line is cut at 64 KiB between two characters, and the rest of it dropped", async () => {
  const long = "é".repeat(MAX_LINE_BYTES);
  const fitting = "é".repeat(MAX_LINE_BYTES / 2);
  const half = "é".repeat(MAX_LINE_BYTES / 2 - 1);
  const bytes = Buffer.from(`${long}\nx${long}\n${fitting}\nlast`);
  for (const places of [[], [1], [10, 11, MAX_LINE_BYTES - 1, MAX_LINE_BYTES, 3 * MAX_LINE_BYTES]])
    assert.deepEqual(await linesIn(cutAt(bytes, places)), [fitting, `x${half}`, fitting, "last"]);
});

test("nothing more is taken while the log is behind", async () => {
  const log = new EventEmitter();
  const lines: string[] = [];
  const read = readLines(Readable.from([Buffer.from("a\nb\n"), Buffer.from("c")]), (line) => {
    lines.push(line);
    log.emit("line");
    return once(log, "drain").then(() => undefined);
  });
  for (const so of [["a"], ["a", "b"], ["a", "b", "c"]]) {
    if (lines.length < so.length) await once(log, "line");
    // Whatever else it would do by itself comes before this.
    for (let turn = 0; turn < 10; turn++) await new Promise((resolve) => setImmediate(resolve));
    assert.deepEqual(lines, so);
    log.emit("drain");
  }
  await read;
});

test("a stream that breaks is one that ends: what had come is kept", async () => {
  const stream = new PassThrough();
  const lines: string[] = [];
  const read = readLines(stream, (line) => {
    lines.push(line);
    stream.destroy(new Error("the pipe broke"));
    return null;
  });
  stream.write("a\nhal");
  await read;
  assert.deepEqual(lines, ["a", "hal"]);
});
