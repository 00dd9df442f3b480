import assert from "node:assert/strict";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { Readable } from "node:stream";
import { test } from "node:test";
import fc from "fast-check";
import {
  type FromStitch,
  MAX_MESSAGE_BYTES,
  ProcessV1Reader,
  type StitchMessage,
  writeToStitch,
} from "../../../workers/node/protocol/process-v1.ts";
import { linesOf, MAX_LINE_BYTES } from "../../../workers/node/protocol/line-splitter.ts";
import { byteByByte, cutAt, cuts } from "./cut-streams.ts";
import { readAll, reference, soup, writtenMessages } from "./process-v1-streams.ts";

const RUNS = { numRuns: 1000 };
/** So small that random streams reach these limits. */
const SMALL = { messageBytes: 64, lineBytes: 16 };

const read = (text: string): FromStitch[] => readAll(new ProcessV1Reader(), [Buffer.from(text)]);
const messagesIn = (found: readonly FromStitch[]): StitchMessage[] =>
  found.flatMap((one) => (one.kind === "message" ? [one.message] : []));
/** Examples check the reason that a stitch is told; the reference gives none. */
const withoutReasons = (found: readonly FromStitch[]): FromStitch[] =>
  found.map((one) => (one.kind === "unreadable" ? { ...one, reason: "" } : one));

test("reads every message as it was meant, whatever its author's habits and wherever the stream is cut", () => {
  fc.assert(
    fc.property(fc.array(writtenMessages, { maxLength: 8 }), cuts, (written, places) => {
      const bytes = Buffer.from(written.map(({ text }) => text).join(""));
      const expected = written.map(({ message }) => ({ kind: "message", message }));
      assert.deepEqual(readAll(new ProcessV1Reader(), cutAt(bytes, places)), expected);
      assert.deepEqual(readAll(new ProcessV1Reader(), byteByByte(bytes)), expected);
    }),
    RUNS,
  );
});

test("reads any stream, cut anywhere, as the reference reads it whole, in bounded memory", () => {
  const streams = fc.oneof({ weight: 4, arbitrary: soup }, fc.uint8Array({ maxLength: 300 }));
  fc.assert(
    fc.property(streams, cuts, (bytes, places) => {
      const expected = reference(bytes, SMALL);
      for (const chunks of [cutAt(bytes, places), byteByByte(bytes)]) {
        const reader = new ProcessV1Reader(SMALL);
        const look = () => assert.ok(reader.buffered <= 2 * SMALL.messageBytes, `${reader.buffered} bytes held`);
        assert.deepEqual(withoutReasons(readAll(reader, chunks, look)), expected);
      }
    }),
    { numRuns: 5000 },
  );
});

test("what a stitch prints between its messages does not cost it a message", () => {
  fc.assert(
    fc.property(fc.array(fc.tuple(soup, writtenMessages), { maxLength: 5 }), (parts) => {
      const limits = { messageBytes: 512, lineBytes: 16 };
      const fitting = parts.filter(([, { text }]) => Buffer.byteLength(text) <= limits.messageBytes);
      const bytes = Buffer.concat(fitting.flatMap(([rubbish, { text }]) => [rubbish, Buffer.from(`\n${text}`)]));
      const rest = messagesIn(readAll(new ProcessV1Reader(limits), [bytes]));
      for (const [, { message }] of fitting) {
        const at = rest.findIndex((one) => JSON.stringify(one) === JSON.stringify(message));
        assert.notEqual(at, -1, `not read: ${JSON.stringify(message)}`);
        // The rubbish contains messages of its own.
        rest.splice(0, at + 1);
      }
    }),
    RUNS,
  );
});

const SYNC: StitchMessage = { command: "sync", id: 7 };
const NO_DATA = { command: "data", id: null, data: "", channel: null, toStitch: null, toGroup: null } as const;
/** As Newtonsoft.Json writes it with `TypeNameHandling.All`. */
const dotNet = (fields: Record<string, unknown>): string =>
  JSON.stringify({
    $type: "CrossStitch.Stitch.Process.FromStitchMessage, CrossStitch.Stitch",
    Command: null,
    Id: 0,
    DataChannel: null,
    Data: null,
    Logs: null,
    ToGroupName: null,
    ToStitchInstanceId: null,
    ...fields,
  });

for (const [who, text, message] of [
  ["console.log of a heartbeat's answer", '{ "Command":"sync", "Id":"7" }\nend\n\n', SYNC],
  ["a pretty printer", '{\r\n  "Command": "sync",\r\n\r\n  "Id": 7\r\n}\r\nend\r\n', SYNC],
  ["who writes lower case", '{"command":"sync","id":7}\nend\n', SYNC],
  ["who writes upper case", '{"COMMAND":"SYNC","ID":7}\nend\n', SYNC],
  ["who writes a byte order mark", '\uFEFF{"Command":"Sync","Id":7}\nend\n', SYNC],
  ["who ends its last line with its output", '{"Command":"sync","Id":7}\nend', SYNC],
  ["who names a field twice: the last counts", '{"id":1,"Command":"sync","Id":7}\nend\n', SYNC],
  ["who plays with prototypes", '{"__proto__":{"Id":1},"constructor":1,"Command":"sync","Id":7}\nend\n', SYNC],
  [".NET's ack", `${dotNet({ Command: "ack", Id: 9 })}\nend\n`, { command: "ack", id: 9 }],
  [
    ".NET's logs",
    `${dotNet({ Command: "logs", Logs: { $type: "System.String[], mscorlib", $values: ["a", null, "b"] } })}\nend\n`,
    { command: "logs", lines: ["a", "", "b"] },
  ],
  [
    ".NET's data for a group",
    `${dotNet({ Command: "data", Data: "x", ToGroupName: "a.b.1" })}\nend\n`,
    { ...NO_DATA, data: "x", toGroup: "a.b.1" },
  ],
  [
    "a reply",
    '{"Command":"data","Id":"8","Data":"x","ToStitchInstanceId":"n1:a","DataChannel":"c"}\nend\n',
    { ...NO_DATA, id: 8, data: "x", toStitch: "n1:a", channel: "c" },
  ],
  ["data as an object", '{"Command":"data","Data":{ "a": [1, "é"] }}\nend\n', { ...NO_DATA, data: '{"a":[1,"é"]}' }],
  ["data as a number", '{"Command":"data","Data":1.50}\nend\n', { ...NO_DATA, data: "1.5" }],
  ["data as false", '{"Command":"data","Data":false}\nend\n', { ...NO_DATA, data: "false" }],
  ["no data", '{"Command":"data","ToStitchInstanceId":"a"}\nend\n', { ...NO_DATA, toStitch: "a" }],
  ["one log line", '{"Command":"logs","Logs":"a"}\nend\n', { command: "logs", lines: ["a"] }],
  [
    "a stack trace",
    '{"Command":"logs","Logs":["a\\r\\n  b\\n",{"c":1}]}\nend\n',
    { command: "logs", lines: ["a", "  b", '{"c":1}'] },
  ],
] as const)
  test(`reads: ${who}`, () => assert.deepEqual(read(text), [{ kind: "message", message }]));

for (const [what, json, reason] of [
  ["no JSON", "{'Command': 'sync'}", /not a JSON object/],
  ["no command", '{"Id":1}', /^Command is missing: expected sync, ack, fail, data or logs$/],
  ["an unknown command", '{"Command":"boo","Id":1}', /^Command: expected sync, .* or logs, got "boo"$/],
  ["a command that is no string", '{"Command":{},"Id":1}', /^Command: .* got an object$/],
  ["no Id", '{"Command":"ack"}', /^Id is missing: expected a whole number/],
  ["an Id that is null", '{"Command":"fail","Id":null}', /^Id is missing/],
  ["an Id that is a word", '{"Command":"sync","Id":"seven"}', /^Id: .* got "seven"$/],
  ["an Id that is a fraction", '{"Command":"sync","Id":1.5}', /^Id: .* got 1\.5$/],
  ["an Id below 0", '{"Command":"sync","Id":-1}', /^Id: .* got -1$/],
  [
    "an Id that JavaScript cannot hold",
    '{"Command":"sync","Id":"9007199254740993"}',
    /^Id: .* got "9007199254740993"$/,
  ],
  ["data with such an Id", '{"Command":"data","Id":[]}', /^Id: .* got an array$/],
  ["a long wrong Id", `{"Command":"ack","Id":"${"x".repeat(1000)}"}`, /^Id: .{0,200}…$/],
  ["a name that is a number", '{"Command":"data","ToGroupName":5}', /^ToGroupName: expected a string, got 5$/],
  ["no logs", '{"Command":"logs"}', /^Logs is missing: expected an array of lines$/],
  ["logs that are a number", '{"Command":"logs","Logs":3}', /^Logs: expected an array of lines, got 3$/],
  [
    "depths in logs",
    `{"Command":"logs","Logs":[1,${"[".repeat(100_000)}${"]".repeat(100_000)}]}`,
    /nested too deeply$/,
  ],
  ["depths", `{"Command":"data","Data":${"[".repeat(100_000)}${"]".repeat(100_000)}}`, /^Data: nested too deeply$/],
] as const)
  test(`is unreadable, with the reason: ${what}`, () => {
    const [found, ...more] = read(`${json}\nend\n`);
    assert.deepEqual(more, []);
    assert.equal(found?.kind, "unreadable");
    assert.match(found.reason, reason);
    assert.equal(found.lines.join("").slice(0, 60_000), json.slice(0, 60_000));
  });

test("text outside a message goes to the log, line by line; blank lines are dropped", () => {
  assert.deepEqual(
    read(' {"a":1}\n\n \t\nhé\r\nend\n[1]\n\uFEFFlast').map((one) => (one.kind === "line" ? one.line : one)),
    [' {"a":1}', "hé", "end", "[1]", "last"],
  );
});

test("a printed object does not cost the heartbeat answer that follows it", () => {
  const [printed, answer] = read('{"level":30}\nsome text\n{\n "Command":"sync",\n "Id":7}\nend\n');
  assert.deepEqual(printed?.kind === "unreadable" ? printed.lines : printed, ['{"level":30}', "some text"]);
  assert.deepEqual(answer, { kind: "message", message: SYNC });
});

test("reports an output that ends inside a message", () => {
  assert.deepEqual(withoutReasons(read('{"Command":"sync",\n"Id":7}\nen')), [
    { kind: "unreadable", reason: "", lines: ['{"Command":"sync",', '"Id":7}', "en"] },
  ]);
});

test("a message may have 1 MiB; a larger one is refused, whatever its lines, and the next one is read", () => {
  const empty = '{"Command":"data","Data":""}';
  const data = "x".repeat(MAX_MESSAGE_BYTES - empty.length);
  const whole = `{"Command":"data","Data":"${data}"}`;
  assert.deepEqual(read(`${whole}\nend\n`), [{ kind: "message", message: { ...NO_DATA, data } }]);
  for (const more of [`${whole} `, `{\n${whole.slice(1)}`, `${whole.slice(0, -1)}\n}`, `${whole}${whole}${whole}`]) {
    const [refused, ...rest] = read(`${more}\nend\n{"Command":"sync","Id":7}\nend\n`);
    assert.equal(refused?.kind, "unreadable");
    assert.match(refused.reason, /more than 1048576 bytes/);
    assert.ok(refused.lines.every((line) => line.length <= 64 * 1024));
    assert.deepEqual(rest, [{ kind: "message", message: SYNC }]);
  }
});

test("after a stray brace and 2 MiB of lines, reads lines again", () => {
  const line = `${"x".repeat(1023)}\n`;
  const [refused, ...rest] = read(`{\n${line.repeat(2 * 1024)}seen\n`);
  assert.equal(refused?.kind === "unreadable" ? refused.lines.length : refused, 1024);
  assert.deepEqual(rest.at(-1), { kind: "line", line: "seen" });
  assert.ok(rest.length < 5, `${rest.length} lines were not skipped`);
});

test("hands on 10,000 lines of an unreadable message, and says how many more there were", () => {
  const [found] = read(`{\n${"x\n\n".repeat(20_000)}end\n`);
  assert.equal(found?.kind, "unreadable");
  assert.equal(found.lines.length, 10_001);
  assert.equal(found.lines.at(-1), "… and 10001 more lines");
});

test("turns a MiB of lines that are no message into text only as far as it hands them on", (t) => {
  const bytes = Buffer.from("{\n".repeat(MAX_MESSAGE_BYTES / 2 + 1));
  const texts = t.mock.method(Buffer.prototype, "toString");
  const [found] = new ProcessV1Reader().push(bytes);
  const count = texts.mock.callCount();
  texts.mock.restore();
  assert.equal(found?.kind, "unreadable");
  assert.equal(found.lines.length, 10_001);
  assert.equal(found.lines.at(-1), `… and ${MAX_MESSAGE_BYTES / 2 - 10_000 - 1} more lines`);
  assert.ok(count < 10_010, `${count} texts`);
});

test("makes the lines of a MiB of logs one by one, as they are asked for", (t) => {
  const texts = t.mock.method(JSON, "stringify");
  const [found] = new ProcessV1Reader().push(
    Buffer.from(`{"Command":"logs","Logs":[${"[1],".repeat(250_000)}"last"]}\nend\n`),
  );
  assert.ok(found?.kind === "message" && found.message.command === "logs");
  assert.ok(texts.mock.callCount() <= 1, `${texts.mock.callCount()} texts before the first is asked for`);
  const { lines } = found.message;
  const [first] = lines;
  assert.equal(first, "[1]");
  assert.ok(texts.mock.callCount() <= 2, `${texts.mock.callCount()} texts for one line`);
  texts.mock.restore();
  const all = [...lines];
  assert.deepEqual([all.length, all[1], all.at(-1)], [250_001, "[1]", "last"]);
});

test("a log line has the same text, whether or not it was read byte by byte", () => {
  const unit = fc.oneof(
    fc.constantFrom("\n", "\r", "\r\n", "é", "🧵", "\uD83E", "\uFEFF"),
    fc.string({ unit: "binary" }),
  );
  fc.assert(
    fc.property(fc.array(unit, { maxLength: 6 }), fc.constantFrom(0, 21_840, 65_530), (units, length) => {
      const text = `${"x".repeat(length)}${units.join("")}`;
      const [found] = read(`${JSON.stringify({ Command: "logs", Logs: [text] })}\nend\n`);
      assert.ok(found?.kind === "message" && found.message.command === "logs");
      const expected = text === "" ? [""] : [...linesOf(Buffer.from(text), MAX_LINE_BYTES)];
      assert.deepEqual(found.message.lines, expected);
    }),
    RUNS,
  );
});

test("a line is cut at 64 KiB, between two characters", () => {
  const [line] = read(`x${"é".repeat(40_000)}\n`);
  assert.deepEqual(line, { kind: "line", line: `x${"é".repeat(32 * 1024 - 1)}` });
  const [logged] = read(`{"Command":"logs","Logs":["${"é".repeat(40_000)}"]}\nend\n`);
  assert.deepEqual(logged, { kind: "message", message: { command: "logs", lines: ["é".repeat(32 * 1024)] } });
});

test("an endless line takes the memory of one message, and little after its end", () => {
  for (const start of ["{", "x"]) {
    const reader = new ProcessV1Reader();
    reader.push(Buffer.from(start));
    const chunk = Buffer.alloc(1000, "x");
    for (let n = 0; n < 10_000; n++) assert.deepEqual(reader.push(chunk), []);
    assert.ok(reader.buffered <= MAX_MESSAGE_BYTES);
    assert.equal(reader.push(Buffer.from("\n")).length, 1);
    assert.ok(reader.buffered <= 2 * 4096);
  }
});

test("a stitch that splits lines at U+2028 and joins lines with commas can read what is written", async () => {
  const field = fc.string({
    unit: fc.oneof(
      fc.constantFrom("\n", "\r", "\u2028", "\u2029", "\u0085", "end", '"', "\\", "\ud800"),
      fc.string({ unit: "binary", maxLength: 3 }),
    ),
  });
  const sent = fc.record({
    id: fc.maxSafeNat(),
    from: field,
    node: field,
    channel: field,
    data: field,
    re: fc.constant(null),
  });
  await fc.assert(
    fc.asyncProperty(fc.array(sent, { maxLength: 5 }), cuts, async (written, places) => {
      const text = written.map(writeToStitch).join("");
      assert.match(text, /^[ -~\n]*$/);
      const expected = written.map(({ id, from, node, channel, data }) => ({
        Id: id,
        FromStitchInstanceId: from,
        NodeId: node,
        ChannelName: channel,
        Data: data,
      }));
      assert.deepEqual(await strictlyRead(cutAt(Buffer.from(text), places)), expected);
    }),
  );
});

/** Reads as the existing JavaScript stitches do. */
async function strictlyRead(chunks: readonly Uint8Array[]): Promise<unknown[]> {
  const found: unknown[] = [];
  let lines: string[] = [];
  const input = createInterface({ input: Readable.from(chunks.filter((chunk) => chunk.length > 0)) });
  input.on("line", (line) => {
    if (line === "end") {
      found.push(JSON.parse(lines.join(",")));
      lines = [];
    } else lines.push(line);
  });
  await once(input, "close");
  assert.deepEqual(lines, []);
  return found;
}
