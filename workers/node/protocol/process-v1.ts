import { GatheredBytes } from "./gathered-bytes.ts";
import { type Line, LineSplitter, linesOf, textOf, MAX_LINE_BYTES } from "./line-splitter.ts";
import { checkStitchMessage, type StitchMessage } from "./process-v1-messages.ts";

export type { StitchMessage } from "./process-v1-messages.ts";

/** A longer message is refused. */
export const MAX_MESSAGE_BYTES = 1024 * 1024;
/** At most this many lines of unreadable output are passed on, and one line with the number of the other lines. */
const MAX_UNREADABLE_LINES = 10_000;

/** One item that was found in a stitch's standard output. */
export type FromStitch =
  | { readonly kind: "message"; readonly message: StitchMessage }
  /** For the log. */
  | { readonly kind: "line"; readonly line: string }
  /** For the log, and answered with `_error`. `lines`: the unreadable output, at most 64 KiB per line and 1 MiB in all. */
  | { readonly kind: "unreadable"; readonly reason: string; readonly lines: readonly string[] };

/** `messageBytes` is at least `lineBytes`. */
export type Limits = { readonly messageBytes: number; readonly lineBytes: number };

/**
 * Reads ProcessV1 from the standard output of one stitch, in pieces of any size. Never throws; takes time in proportion to
 * the number of pushed bytes.
 *
 *   outside ──line `{…`──▶ gathering ──line `end`──▶ outside
 *                             │ ▲
 *       longer than a message │ │ line `{…`
 *                             ▼ │
 *                          skipping ──line `end`, or as many bytes as one message may have──▶ outside
 *
 * After a stray `{`, the later output and messages of a program must not get lost. So gathered text that is not a message is
 * reported as unreadable only up to its last line that begins with `{`, because a message may begin there. Skipping ends at a
 * line that begins with `{`, too, or after the length of one message, so that later output is read again.
 */
export class ProcessV1Reader {
  readonly #limits: Limits;
  readonly #lines: LineSplitter;
  readonly #message: GatheredBytes;
  #state: "outside" | "gathering" | "skipping" = "outside";
  #skippedBytes = 0;

  constructor(limits: Limits = { messageBytes: MAX_MESSAGE_BYTES, lineBytes: MAX_LINE_BYTES }) {
    this.#limits = limits;
    this.#lines = new LineSplitter(limits.messageBytes);
    this.#message = new GatheredBytes(limits.messageBytes);
  }

  /** The memory that it holds between two calls: at most one gathered message and one line of the same length. */
  get buffered(): number {
    return this.#lines.buffered + this.#message.capacity;
  }

  push(chunk: Uint8Array): FromStitch[] {
    return this.#read(this.#lines.push(chunk));
  }

  /** Call this when the output has ended: returns the rest of it. */
  end(): FromStitch[] {
    const found = this.#read(this.#lines.end());
    if (this.#state === "gathering") found.push(this.#unreadable(UNENDED, this.#message.take()));
    this.#state = "outside";
    return found;
  }

  #read(lines: Iterable<Line>): FromStitch[] {
    const found: FromStitch[] = [];
    for (const line of lines) this.#take(withoutMark(line), found);
    return found;
  }

  #take(line: Line, found: FromStitch[]): void {
    const word = trimmed(line.bytes);
    if (this.#state === "gathering") {
      if (isEnd(word, line)) this.#finish(found);
      else this.#gather(line, found);
    } else if (line.bytes[0] === BRACE) {
      this.#state = "gathering";
      this.#gather(line, found);
    } else if (this.#state === "skipping") {
      this.#skippedBytes += line.bytes.length + line.dropped + LF.length;
      if (isEnd(word, line) || this.#skippedBytes > this.#limits.messageBytes) this.#state = "outside";
    } else if (word.length > 0) {
      found.push({ kind: "line", line: textOf(line, this.#limits.lineBytes) });
    }
  }

  #gather(line: Line, found: FromStitch[]): void {
    const { messageBytes } = this.#limits;
    const separator = this.#message.length > 0 ? LF : NOTHING;
    if (line.dropped === 0 && this.#message.length + separator.length + line.bytes.length <= messageBytes) {
      this.#message.add(separator);
      this.#message.add(line.bytes);
      return;
    }
    this.#state = "skipping";
    this.#skippedBytes = 0;
    const tooLong = `more than ${messageBytes} bytes between a line that begins with "{" and a line "end"`;
    const gathered = this.#message.take();
    if (gathered.length === 0) {
      found.push(this.#unreadable(tooLong, line.bytes));
      return;
    }
    const start = lastStart(gathered);
    found.push(this.#unreadable(tooLong, start === 0 ? gathered : gathered.subarray(0, start)));
    if (start > 0) {
      this.#message.add(gathered.subarray(start));
      this.#state = "gathering";
    }
    this.#take(line, found);
  }

  #finish(found: FromStitch[]): void {
    this.#state = "outside";
    const bytes = this.#message.take();
    const whole = parsed(bytes);
    const start = "object" in whole ? 0 : lastStart(bytes);
    const last = start === 0 ? whole : parsed(bytes.subarray(start));
    if ("wrong" in last) {
      found.push(this.#unreadable(last.wrong, bytes));
      return;
    }
    if ("wrong" in whole) found.push(this.#unreadable(whole.wrong, bytes.subarray(0, start)));
    const result = checkStitchMessage(last.object);
    if ("wrong" in result) found.push(this.#unreadable(result.wrong, bytes.subarray(start)));
    else found.push({ kind: "message", message: result.message });
  }

  #unreadable(reason: string, bytes: Buffer): FromStitch {
    const lines: string[] = [];
    for (const line of linesOf(bytes, this.#limits.lineBytes)) {
      if (line !== "") lines.push(line);
      if (lines.length === MAX_UNREADABLE_LINES) break;
    }
    // The other lines are only counted: a message may hold 500,000.
    const more = lines.length < MAX_UNREADABLE_LINES ? 0 : filledLines(bytes) - lines.length;
    return { kind: "unreadable", reason, lines: more === 0 ? lines : [...lines, `… and ${more} more lines`] };
  }
}

const UNENDED = 'the output ended within a message: a message ends with a line "end"';
const LF = Buffer.from("\n");
const CR = 0x0d;
const NOTHING = Buffer.alloc(0);
const BRACE = 0x7b;
const END = Buffer.from("end");
/** Some systems write it before UTF-8 text. */
const BYTE_ORDER_MARK = Buffer.from("\uFEFF");

const isBlank = (byte: number | undefined): boolean => byte === 0x20 || (byte !== undefined && byte >= 9 && byte <= 13);

function trimmed(bytes: Buffer): Buffer {
  let from = 0;
  let to = bytes.length;
  while (from < to && isBlank(bytes[from])) from++;
  while (to > from && isBlank(bytes[to - 1])) to--;
  return bytes.subarray(from, to);
}

const isEnd = (word: Buffer, { dropped }: Line): boolean =>
  word.length === END.length && word.equals(END) && dropped === 0;

/** How many lines of a text hold anything before their line end. */
function filledLines(bytes: Buffer): number {
  let count = 0;
  let from = 0;
  for (let at = 0; at <= bytes.length; at++) {
    if (at < bytes.length && bytes[at] !== LF[0]) continue;
    if (at > from && !(at === from + 1 && bytes[from] === CR)) count += 1;
    from = at + 1;
  }
  return count;
}

function withoutMark(line: Line): Line {
  const marked = line.bytes[0] === BYTE_ORDER_MARK[0] && line.bytes.subarray(0, 3).equals(BYTE_ORDER_MARK);
  return marked ? { ...line, bytes: line.bytes.subarray(BYTE_ORDER_MARK.length) } : line;
}

/** The offset of the last line that begins with `{`; 0 if only the first line does. */
const lastStart = (gathered: Buffer): number => gathered.lastIndexOf("\n{") + 1;

/** @param bytes begin with `{`. */
function parsed(bytes: Buffer): { readonly object: object } | { readonly wrong: string } {
  try {
    return { object: JSON.parse(bytes.toString("utf8")) as object };
  } catch (error) {
    return { wrong: `what stands before the line "end" is not a JSON object: ${(error as Error).message}` };
  }
}

/** What a node writes to a stitch. `data` is text; for JSON data it is the JSON text. */
type ToStitch = {
  readonly id: number;
  readonly from: string;
  readonly node: string;
  readonly channel: string;
  readonly data: string;
  /** The Id of the stitch's own message that this message answers; null if that one had no Id, or this is no answer. */
  readonly re: number | null;
};

/**
 * A message in the form that a stitch reads: the object on one line, `end` on the next. It is pure ASCII: some readers end a
 * line at U+2028 (Node's readline) or U+0085, and others read in the encoding of their machine.
 */
export function writeToStitch({ id, from, node, channel, data, re }: ToStitch): string {
  const fields = { Id: id, FromStitchInstanceId: from, NodeId: node, ChannelName: channel, Data: data };
  // Only a stitch that gave its message an Id gets `ReplyToId`. The SDKs give one, to match an answer to its question.
  const json = JSON.stringify(re === null ? fields : { ...fields, ReplyToId: re });
  return `${json.replace(NOT_PLAIN, escaped)}\nend\n`;
}

const NOT_PLAIN = /[^ -~]/g;
const escaped = (character: string): string => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`;
