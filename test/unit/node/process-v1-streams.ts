import fc from "fast-check";
import { checkStitchMessage } from "../../../workers/node/protocol/process-v1-messages.ts";
import type { FromStitch, Limits, ProcessV1Reader, StitchMessage } from "../../../workers/node/protocol/process-v1.ts";

/** Adds the lines of a log, which are made as they are asked for. */
const withLines = (found: FromStitch): FromStitch =>
  found.kind === "message" && found.message.command === "logs"
    ? { kind: "message", message: { command: "logs", lines: [...found.message.lines] } }
    : found;

/** Reads a stream that comes in these chunks. `look` is called after each. */
export function readAll(reader: ProcessV1Reader, chunks: Iterable<Uint8Array>, look = () => {}): FromStitch[] {
  const found: FromStitch[] = [];
  for (const chunk of chunks) {
    for (const one of reader.push(chunk)) found.push(withLines(one));
    look();
  }
  return [...found, ...reader.end().map(withLines)];
}

const word = fc.string({ unit: "grapheme", maxLength: 12 });
const name = word.map((text) => text || null);
const id = fc.maxSafeNat();
const logLine = word.map((text) => text.replaceAll("\n", " ").replaceAll("\r", " "));

const PLAIN = { noNullPrototype: true };
export const messages: fc.Arbitrary<StitchMessage> = fc.oneof(
  fc.record({ command: fc.constantFrom("sync" as const, "ack" as const, "fail" as const), id }, PLAIN),
  fc.record(
    {
      command: fc.constant("data" as const),
      id: fc.option(id.map((n) => n || 1)),
      data: fc.string({ unit: "binary", maxLength: 30 }),
      channel: name,
      toStitch: name,
      toGroup: name,
    },
    PLAIN,
  ),
  fc.record({ command: fc.constant("logs" as const), lines: fc.array(logLine, { maxLength: 4 }) }, PLAIN),
);

/** How the author of a stitch, or a library, may write. */
const habits = fc.record({
  names: fc.constantFrom(
    (field: string) => field,
    (field: string) => field.toLowerCase(),
    (field: string) => field.toUpperCase(),
    (field: string) => `${field.slice(0, 1).toLowerCase()}${field.slice(1)}`,
  ),
  ids: fc.constantFrom<(n: number) => unknown>(Number, String),
  absent: fc.constantFrom<Record<string, unknown>>(
    {},
    { data: null, logs: null, ToGroupName: "", Id: 0, $type: "A, B" },
  ),
  space: fc.constantFrom("", " ", "  ", "\t"),
  lineEnd: fc.constantFrom("\n", "\r\n"),
  end: fc.constantFrom("end", "end ", "\tend", " end \t"),
  after: fc.constantFrom("", "\n", "\r\n", " \n\n"),
});

/** A message and one of the ways to write it. */
export const writtenMessages = fc
  .record({ message: messages, habit: habits })
  .map(({ message, habit: { names, ids, absent, space, lineEnd, end, after } }) => {
    const fields = Object.entries(fieldsOf(message)).filter(([, value]) => value !== null);
    const taken = new Set(fields.map(([field]) => field.toLowerCase()));
    const written = Object.fromEntries([
      ...Object.entries(absent).filter(([field]) => !taken.has(field.toLowerCase())),
      ...fields.map(([field, value]) => [names(field), field === "Id" ? ids(value as number) : value]),
    ]) as Record<string, unknown>;
    const json = JSON.stringify(written, null, space).replaceAll("\n", lineEnd);
    return { message, text: `${json}${lineEnd}${end}${lineEnd}${after}` };
  });

function fieldsOf(message: StitchMessage): Record<string, unknown> {
  const { command: Command } = message;
  if (message.command === "logs") return { Command, Logs: message.lines };
  if (message.command !== "data") return { Command, Id: message.id };
  return {
    Command,
    Id: message.id,
    Data: message.data,
    DataChannel: message.channel,
    ToStitchInstanceId: message.toStitch,
    ToGroupName: message.toGroup,
  };
}

/** Pieces that take a reader of streams to its limits, put together at random. */
export const soup = fc
  .array(
    fc.oneof(
      fc.constantFrom("{", "}", "\n", "\r\n", "\nend\n", "end", " end\t", "\n{", '\n{"a":\n', "\uFEFF", " ", "\r"),
      fc.constantFrom('\n{"Command":"sync","Id":1}\nend\n', '{"Command":"logs",\n"Logs":["é"]}\n', "é", "🧵"),
      fc.nat(70).map((length) => "x".repeat(length)),
      fc.string({ maxLength: 5 }),
      fc.uint8Array({ maxLength: 5 }),
    ),
    { maxLength: 40 },
  )
  .map((parts) => Buffer.concat(parts.map((part) => (typeof part === "string" ? Buffer.from(part) : part))));

/** What a reader must find, written for clarity: the whole stream at once, line after line, a new array for everything. */
export function reference(stream: Uint8Array, { messageBytes, lineBytes }: Limits): FromStitch[] {
  const found: FromStitch[] = [];
  /** The lines of a message that has begun; null outside a message. */
  let gathered: Buffer[] | null = null;
  let skipped: number | null = null;
  const giveUp = (lines: readonly Buffer[]): void => {
    const shown = lines.map((line) => cut(line.length > lineBytes ? line : withoutCr(line), lineBytes));
    found.push({ kind: "unreadable", reason: "", lines: shown.filter((line) => line !== "") });
  };
  for (const { line, length } of linesOf(stream, messageBytes)) {
    const isEnd = length <= messageBytes && /^[ \t\r\v\f]*end[ \t\r\v\f]*$/.test(line.toString("latin1"));
    if (gathered !== null && isEnd) {
      const lines: Buffer[] = gathered;
      const starts = [0, lines.findLastIndex(begins)];
      const start = starts.find((from) => isJson(joined(lines.slice(from))));
      [gathered, skipped] = [null, null];
      if (start === undefined || start > 0) giveUp(lines.slice(0, start));
      if (start === undefined) continue;
      const result = checkStitchMessage(JSON.parse(joined(lines.slice(start)).toString()) as object);
      if ("message" in result) found.push(withLines({ kind: "message", message: result.message }));
      else giveUp(lines.slice(start));
      continue;
    }
    while (gathered !== null && (length > messageBytes || joined([...gathered, line]).length > messageBytes)) {
      const start: number = gathered.findLastIndex(begins);
      giveUp(start > 0 ? gathered.slice(0, start) : gathered);
      gathered = start > 0 ? gathered.slice(start) : null;
      skipped = 0;
    }
    if (gathered !== null) {
      gathered.push(line);
      skipped = null;
    } else if (begins(line)) {
      if (length <= messageBytes) gathered = [line];
      else giveUp([line]);
      skipped = length <= messageBytes ? null : 0;
    } else if (skipped !== null) {
      skipped += line.length + Math.max(0, length - messageBytes) + 1;
      if (isEnd || skipped > messageBytes) skipped = null;
    } else if (/[^ \t\r\v\f]/.test(line.toString("latin1"))) found.push({ kind: "line", line: cut(line, lineBytes) });
  }
  if (gathered !== null) giveUp(gathered);
  return found;
}

const withoutCr = (line: Buffer): Buffer => (line.at(-1) === 13 ? line.subarray(0, -1) : line);
const begins = (line: Buffer): boolean => line[0] === 0x7b;
const joined = (lines: readonly Buffer[]): Buffer =>
  Buffer.concat(lines.flatMap((line, n) => (n > 0 ? [LF, line] : line)));
const LF = Buffer.from("\n");

function isJson(bytes: Buffer): boolean {
  try {
    JSON.parse(bytes.toString());
    return true;
  } catch {
    return false;
  }
}

/**
 * `length`: the length of the line, including a CR at its end. `line`: at most `maxBytes` of it, without CR and byte order
 * mark.
 */
function* linesOf(stream: Uint8Array, maxBytes: number): Generator<{ line: Buffer; length: number }> {
  const all = Buffer.from(stream).toString("latin1").split("\n");
  if (all.at(-1) === "") all.pop();
  for (const text of all) {
    const short = text.length > maxBytes ? text.slice(0, maxBytes) : text.replace(/\r$/, "");
    const line = Buffer.from(short.replace(/^\xEF\xBB\xBF/, ""), "latin1");
    yield { line, length: text.length };
  }
}

/** At most `maxBytes`. A line that was cut ends with a whole character. */
function cut(line: Buffer, maxBytes: number): string {
  return line.length <= maxBytes
    ? line.toString()
    : new TextDecoder("utf-8", { ignoreBOM: true }).decode(line.subarray(0, maxBytes), { stream: true });
}
