import type { LogLine, LogPosition, LogSource } from "../../../src/domain/stitch/log-line.ts";
import { decode, encode, linesOf } from "./log-entries.ts";
import { MARK_BYTES } from "./log-files.ts";
import { bytesOf, RotatingFile } from "./rotating-file.ts";

/** The size of one stitch's log on its node's disk: at most `files` of `fileBytes` each, plus a mark; 20 MiB by default. */
type LogLimits = { readonly fileBytes: number; readonly files: number };
const LIMITS: LogLimits = { fileBytes: 4 * 1024 * 1024 - MARK_BYTES, files: 5 };

/** If more bytes than this are not yet on disk, the writer is asked to wait. */
const BACKLOG_BYTES = 256 * 1024;
const MAX_LINE_CHARS = 64 * 1024;
/** A character takes at most six bytes in JSON (`\u0001`), so a longer piece without a line end is not an entry. */
const MAX_ENTRY_BYTES = 6 * MAX_LINE_CHARS + 256;
const BLOCK_BYTES = 64 * 1024;
const NEWLINE = 10;

type Batch = { readonly entries: Buffer[]; bytes: number; readonly written: PromiseWithResolvers<void> };

/** Lines with the position after each. `next` is where to read on; `lost`: the data at the requested position is gone. */
type LogRead = {
  readonly lines: readonly { readonly line: LogLine; readonly after: LogPosition }[];
  readonly next: LogPosition;
  readonly lost: boolean;
};

/**
 * The log of one stitch: JSON lines `{at, source, line}` in a `RotatingFile`. Lines are gathered while earlier ones are being
 * written. A read sees all lines that were written before. If the disk takes nothing, lines are lost, and the next line that
 * can be written says how many. If others took the file away, the first line in the new file says so.
 */
export class StitchLog {
  readonly #onError: (error: unknown) => void;
  readonly #fileBytes: number;
  readonly #file: RotatingFile;
  #gathered: Batch | null = null;
  #inHand: Batch | null = null;
  #writing = false;
  readonly #watchers = new Set<() => void>();
  #closed = false;
  #lost = 0;
  #lastAtMs = 0;
  constructor(path: string, onError: (error: unknown) => void, limits: LogLimits = LIMITS) {
    this.#onError = onError;
    this.#fileBytes = limits.fileBytes;
    this.#file = new RotatingFile(path, limits.files, onError);
  }

  /** Is the log's file open? */
  get isOpen(): boolean {
    return this.#file.isOpen;
  }

  /**
   * @param continued the next line of this source continues this line.
   * @returns a promise while the disk is behind: write no more until it resolves. It never rejects.
   */
  write(source: LogSource, line: string, nowMs: number, continued = false): Promise<void> | null {
    this.#lastAtMs = nowMs;
    const batch = (this.#gathered ??= { entries: [], bytes: 0, written: Promise.withResolvers<void>() });
    const cut = line.length - MAX_LINE_CHARS;
    const entries = [encode(source, line.slice(0, MAX_LINE_CHARS), nowMs, continued)];
    if (cut > 0) entries.push(encode("system", `the line before was cut: ${cut} more characters are not kept`, nowMs));
    for (const entry of entries) {
      batch.entries.push(entry);
      batch.bytes += entry.length;
    }
    void this.#writeGathered();
    return batch.bytes > BACKLOG_BYTES ? batch.written.promise : null;
  }

  /** Closes the file once all lines are written. Later lines are still written to it, and then the file is closed again. */
  close(): void {
    this.#closed = true;
    void this.#writeGathered();
  }

  /** Keeps the file open from the next line on, because many more lines will come. */
  keepOpen(): void {
    this.#closed = false;
  }

  /** Renames all files of the log. A reader of the log continues there, and later lines are written there. */
  async moveTo(path: string): Promise<void> {
    await this.#upToDate();
    await this.#file.moveTo(path);
  }

  /** Calls `onChange` whenever more has been written. @returns a function that ends the calls. */
  watch(onChange: () => void): () => void {
    this.#watchers.add(onChange);
    return () => this.#watchers.delete(onChange);
  }

  /** The last `count` lines, oldest first. `cut`: some of them are left out, because all together exceed `maxBytes`. */
  async tail(count: number, maxBytes = Number.POSITIVE_INFINITY): Promise<{ lines: LogLine[]; cut: boolean }> {
    const lines: LogLine[] = [];
    let bytes = 0;
    let cut = false;
    if (count > 0) {
      for await (const { line, length } of this.#newestFirst()) {
        bytes += length;
        cut = bytes > maxBytes;
        if (!cut) lines.push(line);
        if (cut || lines.length === count) break;
      }
    }
    return { lines: lines.reverse(), cut };
  }

  /** Where the last `count` lines begin; with 0, where the next line will be. */
  async positionOfLast(count: number): Promise<LogPosition> {
    await this.#upToDate();
    let position = this.#file.end;
    let left = count;
    if (left > 0) {
      for await (const { start } of this.#newestFirst()) {
        position = start;
        left -= 1;
        if (left === 0) break;
      }
    }
    return position;
  }

  /** Some lines from a position on; none only if there are none. */
  async read(from: LogPosition): Promise<LogRead> {
    await this.#upToDate();
    let at = from;
    let lost = false;
    for (;;) {
      const end = this.#file.end;
      const { lost: isLost, ...located } = this.#file.locate(at);
      const { file, offset } = located;
      lost ||= isLost;
      const chunk = await this.#chunk(located, file === end.file ? end.offset : null);
      if (chunk === null) {
        if (file === end.file) return { lines: [], next: located, lost };
        lost = true;
        at = this.#file.startAfter(file);
        continue;
      }
      const lines = linesOf(chunk, file, offset);
      const whole = chunk.lastIndexOf(NEWLINE) + 1;
      const isFull = chunk.length === MAX_ENTRY_BYTES;
      // A line that is not an entry, for example cut off by a crash, is skipped.
      at = { file, offset: offset + (whole === 0 && isFull ? chunk.length : whole) };
      if (lines.length > 0) return { lines, next: at, lost };
      if (isFull) continue;
      if (file === end.file) return { lines: [], next: at, lost };
      at = this.#file.startAfter(file);
    }
  }

  /** A piece of a file, at most as long as one entry may be; null if the file is gone. */
  async #chunk({ file: number, offset }: LogPosition, size: number | null): Promise<Buffer | null> {
    const file = await this.#file.openNumber(number);
    if (file === null) return null;
    try {
      const end = size ?? (await file.stat()).size;
      return await bytesOf(file, offset, Math.min(end, offset + MAX_ENTRY_BYTES));
    } finally {
      await file.close();
    }
  }

  /** The entries that exist now, newest first, without those that cannot be read. */
  async *#newestFirst(): AsyncGenerator<{ line: LogLine; start: LogPosition; length: number }> {
    await this.#upToDate();
    const end = this.#file.end;
    for (const number of this.#file.numbers) {
      const file = await this.#file.openNumber(number);
      if (file === null) continue;
      try {
        let rest: Buffer = Buffer.alloc(0);
        for (let at = number === end.file ? end.offset : (await file.stat()).size; at > 0; ) {
          const from = Math.max(0, at - BLOCK_BYTES);
          rest = Buffer.concat([await bytesOf(file, from, at), rest]);
          at = from;
          for (let stop = rest.length; stop > 0; ) {
            const begin = rest.lastIndexOf(NEWLINE, stop - 1) + 1;
            // The beginning of the entry is in an earlier block.
            if (begin === 0 && from > 0) break;
            const entry = rest.subarray(begin, stop);
            const line = decode(entry);
            if (line !== null) yield { line, start: { file: number, offset: from + begin }, length: entry.length };
            stop = Math.max(0, begin - 1);
            rest = rest.subarray(0, stop);
          }
        }
      } finally {
        await file.close();
      }
    }
  }

  /** Resolves when earlier lines are on disk or lost, and the file numbers are known. */
  async #upToDate(): Promise<void> {
    await (this.#gathered ?? this.#inHand)?.written.promise;
    await this.#file.find();
  }

  async #writeGathered(): Promise<void> {
    if (this.#writing) return;
    this.#writing = true;
    // Waits one turn, so that lines that come together are written together.
    await Promise.resolve();
    while (this.#gathered !== null) {
      const batch = this.#gathered;
      this.#inHand = batch;
      this.#gathered = null;
      await this.#append(batch.entries);
      this.#inHand = null;
      batch.written.resolve();
      for (const onChange of this.#watchers) onChange();
    }
    if (this.#closed) await this.#file.close();
    this.#writing = false;
    // These lines came while the file was being closed.
    if (this.#gathered !== null) await this.#writeGathered();
  }

  /** Never rejects: lines that cannot be written are lost, and counted. */
  async #append(lines: readonly Buffer[]): Promise<void> {
    const remarks = new Set<Buffer>();
    const entries = [...lines];
    let done = 0;
    const remark = (text: string) => {
      const entry = encode("system", text, this.#lastAtMs);
      remarks.add(entry);
      entries.splice(done, 0, entry);
    };
    if (this.#lost > 0) remark(this.#lossNotice());
    try {
      while (done < entries.length) {
        await this.#file.openToWrite();
        const befallen = this.#file.takeRemark();
        if (befallen !== null) remark(befallen);
        const end = done + this.#fitting(entries.slice(done));
        if (end === done) {
          await this.#file.putAside();
          continue;
        }
        await this.#file.append(Buffer.concat(entries.slice(done, end)));
        this.#lost = 0;
        done = end;
      }
    } catch (error) {
      if (this.#lost === 0) this.#onError(error);
      this.#lost += entries.slice(done).filter((entry) => !remarks.has(entry)).length;
      // A part of the data may be in the file: when the file is opened again, its size is read again.
      await this.#file.close();
    }
  }

  /** How many of the entries fit into the open file. */
  #fitting(entries: readonly Buffer[]): number {
    let bytes = this.#file.end.offset;
    let count = 0;
    for (const { length } of entries) {
      // An entry that is larger than a file may be gets a file of its own.
      if (bytes > 0 && bytes + length > this.#fileBytes) break;
      bytes += length;
      count += 1;
    }
    return count;
  }

  #lossNotice(): string {
    const what = this.#lost === 1 ? "1 line was" : `${this.#lost} lines were`;
    return `${what} lost here: the disk took nothing`;
  }
}
