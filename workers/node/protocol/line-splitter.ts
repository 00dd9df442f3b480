import { GatheredBytes } from "./gathered-bytes.ts";

/** A longer line is cut, and its rest is dropped: a program that never ends a line must not fill the memory. */
export const MAX_LINE_BYTES = 64 * 1024;

const LF = 10;
const CR = 13;

/** A line without its line end. `bytes` are valid only until the next line is requested. */
export type Line = {
  readonly bytes: Buffer;
  /** How many bytes were dropped at the end, because the line was longer than the limit. */
  readonly dropped: number;
};

/**
 * Splits the pushed bytes into lines that end with LF or CR LF. The part of a line beyond `limit` is dropped, so that a
 * program that never ends a line does not fill the memory.
 */
export class LineSplitter {
  readonly #limit: number;
  readonly #held: GatheredBytes;
  #dropped = 0;

  /** @param limit in bytes, including a CR at the line's end. */
  constructor(limit: number) {
    this.#limit = limit;
    this.#held = new GatheredBytes(limit);
  }

  /** The memory that an unfinished line takes. */
  get buffered(): number {
    return this.#held.capacity;
  }

  /** The lines that end in `chunk`, one at a time: read all of them before the next call. */
  *push(chunk: Uint8Array): Generator<Line, void> {
    const bytes = Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength);
    let from = 0;
    for (let at = bytes.indexOf(LF); at !== -1; at = bytes.indexOf(LF, from)) {
      const rest = bytes.subarray(from, at);
      from = at + 1;
      yield this.#finish(rest);
    }
    if (from < bytes.length) this.#hold(bytes.subarray(from));
  }

  /** The rest after the last line end, as a line; no line if there is no rest. */
  *end(): Generator<Line, void> {
    if (this.#held.length > 0) yield this.#finish(Buffer.alloc(0));
  }

  #finish(rest: Buffer): Line {
    if (this.#held.length === 0 && rest.length <= this.#limit) return lineOf(rest, 0);
    this.#hold(rest);
    const dropped = this.#dropped;
    this.#dropped = 0;
    return lineOf(this.#held.take(), dropped);
  }

  #hold(part: Buffer): void {
    const room = Math.max(0, this.#limit - this.#held.length);
    this.#held.add(part.subarray(0, room));
    this.#dropped += Math.max(0, part.length - room);
  }
}

function lineOf(bytes: Buffer, dropped: number): Line {
  const ended = dropped === 0 && bytes.at(-1) === CR;
  return { bytes: ended ? bytes.subarray(0, -1) : bytes, dropped };
}

/** At most `maxBytes` of a line as text. Invalid UTF-8 becomes U+FFFD; a character that the cut would split is left out. */
export function textOf({ bytes, dropped }: Line, maxBytes: number): string {
  if (dropped === 0 && bytes.length <= maxBytes) return bytes.toString("utf8");
  return new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes.subarray(0, maxBytes), { stream: true });
}

/** The lines of a whole text, each of at most `maxBytes`. */
export function* linesOf(bytes: Uint8Array, maxBytes: number): Generator<string, void> {
  const splitter = new LineSplitter(maxBytes);
  for (const line of splitter.push(bytes)) yield textOf(line, maxBytes);
  for (const line of splitter.end()) yield textOf(line, maxBytes);
}
