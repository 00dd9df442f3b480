import { GatheredBytes } from "../protocol/gathered-bytes.ts";
import type { Line } from "../protocol/line-splitter.ts";

const LF = 10;
const CR = 13;
const NONE = Buffer.alloc(0);

/** A piece of the output that a program prints for people. `continued`: the next piece continues the same line. */
export type OutputLine = Line & { readonly continued: boolean };

/**
 * Splits a program's output into lines that end with LF, CR LF, or CR alone: a progress bar goes back to the start of the
 * line each time it draws itself. A program may wait with an unfinished line, for example when it asks something: `pause`
 * then returns what there is. If a line is longer than `limit`, the rest of it is dropped.
 */
export class OutputSplitter {
  readonly #limit: number;
  readonly #held: GatheredBytes;
  #dropped = 0;
  /** The last line ended with a CR: an LF right after it belongs to the same line end. */
  #isAfterCr = false;
  /** A part of the line was returned in a pause. */
  #isContinuing = false;

  /** @param limit in bytes. */
  constructor(limit: number) {
    this.#limit = limit;
    this.#held = new GatheredBytes(limit);
  }

  /** Does it hold a part of a line? */
  get isUnfinished(): boolean {
    return this.#held.length > 0;
  }

  /** The lines that end in `chunk`, one at a time. Read all of them before the next call. */
  *push(chunk: Uint8Array): Generator<OutputLine, void> {
    const bytes = Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength);
    let from = 0;
    let lf = bytes.indexOf(LF);
    let cr = bytes.indexOf(CR);
    while (lf !== -1 || cr !== -1) {
      const isCr = cr !== -1 && (lf === -1 || cr < lf);
      const at = isCr ? cr : lf;
      const rest = bytes.subarray(from, at);
      from = at + 1;
      if (isCr) cr = bytes.indexOf(CR, from);
      else lf = bytes.indexOf(LF, from);
      const isEmpty = rest.length === 0 && this.#held.length === 0 && !this.#isContinuing;
      // The LF of a CR LF; or a CR on an empty line, which only moves the cursor.
      const isNoEnd = isEmpty && (isCr || this.#isAfterCr);
      this.#isAfterCr = isCr && (!isEmpty || this.#isAfterCr);
      if (!isNoEnd) yield this.#finish(rest);
    }
    if (from === bytes.length) return;
    this.#isAfterCr = false;
    this.#hold(bytes.subarray(from));
  }

  /** Nothing has come for a while: returns the unfinished line, without a character that is not complete yet. */
  *pause(): Generator<OutputLine, void> {
    const bytes = Buffer.from(this.#held.take());
    const whole = bytes.length - unfinishedBytes(bytes);
    this.#held.add(bytes.subarray(whole));
    if (whole === 0) return;
    this.#isContinuing = true;
    yield this.#lineOf(bytes.subarray(0, whole), true);
  }

  /** The text after the last line end; no line if there is none. */
  *end(): Generator<OutputLine, void> {
    if (this.#held.length > 0) yield this.#finish(NONE);
  }

  #finish(rest: Buffer): OutputLine {
    this.#isContinuing = false;
    if (this.#held.length === 0 && rest.length <= this.#limit) return this.#lineOf(rest, false);
    this.#hold(rest);
    return this.#lineOf(this.#held.take(), false);
  }

  #lineOf(bytes: Buffer, continued: boolean): OutputLine {
    const dropped = this.#dropped;
    this.#dropped = 0;
    return { bytes, dropped, continued };
  }

  #hold(part: Buffer): void {
    const room = Math.max(0, this.#limit - this.#held.length);
    this.#held.add(part.subarray(0, room));
    this.#dropped += Math.max(0, part.length - room);
  }
}

/** The number of bytes at the end that begin an incomplete character of UTF-8. */
function unfinishedBytes(bytes: Buffer): number {
  for (let back = 1; back <= Math.min(3, bytes.length); back++) {
    const byte = bytes[bytes.length - back] ?? 0;
    // No character of UTF-8 begins with a byte above F4.
    if (byte < 0x80 || byte > 0xf4) return 0;
    if (byte < 0xc0) continue;
    const length = byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : 2;
    return length > back ? back : 0;
  }
  return 0;
}
