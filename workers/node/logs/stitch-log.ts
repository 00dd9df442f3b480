import type { Stats } from "node:fs";
import { dirname } from "node:path";
import { type LogLine, logLine, type LogPosition, type LogSource } from "../../../src/domain/stitch/log-line.ts";
import { type BoundedFile, LOG_FILES, orNull } from "../files/bounded-files.ts";
import { freeNumber, MARK_BYTES, markOf, numbersAside } from "./log-files.ts";
import { APPEND, FILE_MODE, FOLDER_MODE, READ } from "../files/own-files.ts";

/** What one stitch keeps on its node's disk: at most `files` of `fileBytes` each, and a mark; 20 MiB by default. */
type LogLimits = { readonly fileBytes: number; readonly files: number };
const LIMITS: LogLimits = { fileBytes: 4 * 1024 * 1024 - MARK_BYTES, files: 5 };

/** Bytes not yet on disk until whoever writes is asked to wait. */
const BACKLOG_BYTES = 256 * 1024;
const MAX_LINE_CHARS = 64 * 1024;
/** A character takes six bytes of JSON at most (`\u0001`): nothing this long without an end is an entry. */
const MAX_ENTRY_BYTES = 6 * MAX_LINE_CHARS + 256;
const BLOCK_BYTES = 64 * 1024;
const NEWLINE = 10;

const TAKEN_AWAY =
  "its log file was moved away, deleted, replaced or cut short by another program; the log goes on here";

/** A file that others took away or cut short: its number, what it held then, and where its successor's own lines begin. */
type Gone = { readonly number: number; readonly size: number; readonly goOnAt: number };
type Identity = { readonly dev: number; readonly ino: number };

type Batch = { readonly entries: Buffer[]; bytes: number; readonly written: PromiseWithResolvers<void> };

/** Lines with the position after each. `next` is where to read on; `lost`: what stood at the position asked for is gone. */
type LogRead = {
  readonly lines: readonly { readonly line: LogLine; readonly after: LogPosition }[];
  readonly next: LogPosition;
  readonly lost: boolean;
};

/**
 * The log of one stitch: JSON lines `{at, source, line}` in a file, put aside when it is full as `<path>.<n>`, n rising;
 * the oldest is deleted. So a file keeps its number for ever, and a position stays what it is, over rotation and restarts.
 *
 * Lines are gathered while earlier ones are being written. Reading sees all that was written before. A disk that takes
 * nothing costs lines, and the next one that can be written says how many. A file that others move away, delete, replace or
 * cut short (logrotate, a person) is noticed with the next lines: they go to a new file, under a new number, and say so.
 */
export class StitchLog {
  #path: string;
  readonly #onError: (error: unknown) => void;
  readonly #limits: LogLimits;
  #gathered: Batch | null = null;
  #inHand: Batch | null = null;
  #writing = false;
  readonly #watchers = new Set<() => void>();
  #closed = false;
  #lost = 0;
  #lastAtMs = 0;
  /** Settles when the numbers below are known from the disk. */
  #found: Promise<void> | null = null;
  /** The number of the file that is written to, once it is put aside. */
  #number = 1;
  /** The numbers of those that were put aside, in rising order. */
  #aside: number[] = [];
  /** Bytes of whole entries in the file that is written to. */
  #size = 0;
  #file: BoundedFile | null = null;
  /** The file that was written to last under the path; null where there is none yet. */
  #identity: Identity | null = null;
  /** The last of the files that others took away. */
  #gone: Gone | null = null;
  /** The last one that was put aside under another number than it had, because a file of others was there. */
  #renumbered: { readonly from: number; readonly to: number } | null = null;
  /** What befell the file that was written to before; not said yet. */
  #remark: string | null = null;
  /** While files are given other names. */
  #renaming: Promise<void> | null = null;

  constructor(path: string, onError: (error: unknown) => void, limits: LogLimits = LIMITS) {
    this.#path = path;
    this.#onError = onError;
    this.#limits = limits;
  }

  /** Does it have its file open? */
  get isOpen(): boolean {
    return this.#file !== null;
  }

  /**
   * @param continued the next line of this source goes on with it.
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

  /** Lets go of the file once all is written. What is written later still goes there, and the file is let go of after that. */
  close(): void {
    this.#closed = true;
    void this.#writeGathered();
  }

  /** Keeps the file open from the next line on: many more are to come. */
  keepOpen(): void {
    this.#closed = false;
  }

  /** Gives all its files other names. Who reads it reads on there, and what is written later goes there. */
  async moveTo(path: string): Promise<void> {
    await this.#settle();
    await this.#rename(async () => {
      await LOG_FILES.makeFolder(dirname(path), FOLDER_MODE);
      for (const number of this.#aside) await orNull(LOG_FILES.rename(`${this.#path}.${number}`, `${path}.${number}`));
      await orNull(LOG_FILES.rename(this.#path, path));
      this.#path = path;
    });
  }

  /** Calls `onChange` whenever more has been written. @returns what ends that. */
  watch(onChange: () => void): () => void {
    this.#watchers.add(onChange);
    return () => this.#watchers.delete(onChange);
  }

  /** The last `count` lines, oldest first. `cut`: there are more of them, but they are longer than `maxBytes` together. */
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
    await this.#settle();
    let position: LogPosition = { file: this.#number, offset: this.#size };
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

  /** Some lines from a position on: none only where there are none. */
  async read(from: LogPosition): Promise<LogRead> {
    await this.#settle();
    let { file, offset } = from;
    let lost = false;
    for (;;) {
      const last = this.#number;
      const size = this.#size;
      if (this.#renumbered?.from === file) file = this.#renumbered.to;
      if (file > last || (file === last && offset > size)) {
        lost = true;
        file = this.#aside[0] ?? last;
        offset = 0;
      } else if (file < last && !this.#aside.includes(file)) {
        lost ||= this.#gone?.number !== file || offset < this.#gone.size;
        ({ file, offset } = this.#startAfter(file));
      }
      const chunk = await this.#chunk(file, offset, file === last ? size : null);
      const lines = chunk === null ? [] : linesOf(chunk, file, offset);
      const whole = chunk === null ? 0 : chunk.lastIndexOf(NEWLINE) + 1;
      // What is no entry, such as one that was cut off by a crash, is passed over.
      offset += whole === 0 && chunk?.length === MAX_ENTRY_BYTES ? chunk.length : whole;
      if (lines.length > 0) return { lines, next: { file, offset }, lost };
      if (chunk !== null && chunk.length === MAX_ENTRY_BYTES) continue;
      if (file === last) return { lines: [], next: { file, offset }, lost };
      lost ||= chunk === null;
      ({ file, offset } = this.#startAfter(file));
    }
  }

  /** Where the lines after those of a file begin. */
  #startAfter(number: number): LogPosition {
    const file = this.#aside.find((one) => one > number) ?? this.#number;
    const isSuccessor = this.#gone !== null && file === this.#gone.number + 1;
    return { file, offset: isSuccessor ? (this.#gone?.goOnAt ?? 0) : 0 };
  }

  /** At most one entry's bound of a file; null where the file is gone. */
  async #chunk(number: number, offset: number, size: number | null): Promise<Buffer | null> {
    const file = await this.#openNumber(number);
    if (file === null) return null;
    try {
      const end = size ?? (await file.stat()).size;
      return await bytesOf(file, offset, Math.min(end, offset + MAX_ENTRY_BYTES));
    } finally {
      await file.close();
    }
  }

  /** The entries there are now, without those that cannot be read. */
  async *#newestFirst(): AsyncGenerator<{ line: LogLine; start: LogPosition; length: number }> {
    await this.#settle();
    const last = this.#number;
    const size = this.#size;
    for (const number of [last, ...this.#aside.toReversed()]) {
      const file = await this.#openNumber(number);
      if (file === null) continue;
      try {
        let rest: Buffer = Buffer.alloc(0);
        for (let at = number === last ? size : (await file.stat()).size; at > 0; ) {
          const from = Math.max(0, at - BLOCK_BYTES);
          rest = Buffer.concat([await bytesOf(file, from, at), rest]);
          at = from;
          for (let end = rest.length; end > 0; ) {
            const begin = rest.lastIndexOf(NEWLINE, end - 1) + 1;
            // Its beginning is in a block before this one.
            if (begin === 0 && from > 0) break;
            const entry = rest.subarray(begin, end);
            const line = decode(entry);
            if (line !== null) yield { line, start: { file: number, offset: from + begin }, length: entry.length };
            end = Math.max(0, begin - 1);
            rest = rest.subarray(0, end);
          }
        }
      } finally {
        await file.close();
      }
    }
  }

  /** What was written before is on disk, or lost; the numbers are known. */
  async #settle(): Promise<void> {
    await (this.#gathered ?? this.#inHand)?.written.promise;
    await this.#find();
  }

  /** Opens a file by its number; null where there is none. */
  async #openNumber(number: number): Promise<BoundedFile | null> {
    for (;;) {
      await this.#renaming;
      const current = this.#number;
      const path = this.#path;
      const file = number === current ? await openCurrent(path, this.#identity) : await openAside(`${path}.${number}`);
      // Renamed meanwhile: what was opened may be another one.
      if (this.#number === current && this.#path === path && this.#renaming === null) return file;
      await file?.close();
    }
  }

  async #writeGathered(): Promise<void> {
    if (this.#writing) return;
    this.#writing = true;
    // A turn, so that lines which come together are written together.
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
    if (this.#closed) await this.#letGo();
    this.#writing = false;
    // Came while the file was being closed.
    if (this.#gathered !== null) await this.#writeGathered();
  }

  /** Never rejects: what cannot be written is lost, and counted. */
  async #append(lines: readonly Buffer[]): Promise<void> {
    const remarks = new Set<Buffer>();
    const entries = [...lines];
    const { fileBytes } = this.#limits;
    let done = 0;
    const remark = (text: string) => {
      const entry = encode("system", text, this.#lastAtMs);
      remarks.add(entry);
      entries.splice(done, 0, entry);
    };
    if (this.#lost > 0) remark(this.#lossNotice());
    try {
      while (done < entries.length) {
        const file = await this.#openToWrite();
        if (this.#remark !== null) remark(this.#remark);
        this.#remark = null;
        let end = done;
        let bytes = 0;
        for (let next = entries[end]; next !== undefined; next = entries[++end]) {
          // An entry larger than a file may be has one of its own.
          if (this.#size + bytes > 0 && this.#size + bytes + next.length > fileBytes) break;
          bytes += next.length;
        }
        if (end === done) {
          await this.#rename(() => this.#putAside(file));
          continue;
        }
        await file.append(Buffer.concat(entries.slice(done, end)));
        this.#size += bytes;
        this.#lost = 0;
        done = end;
      }
    } catch (error) {
      if (this.#lost === 0) this.#onError(error);
      this.#lost += entries.slice(done).filter((entry) => !remarks.has(entry)).length;
      // A part of what was being written may be there: opened anew, its size is taken again.
      await this.#letGo();
    }
  }

  #lossNotice(): string {
    const what = this.#lost === 1 ? "1 line was" : `${this.#lost} lines were`;
    return `${what} lost here: the disk took nothing`;
  }

  /** Opens the file that is written to, unless it is open, and still the one that the path leads to. */
  async #openToWrite(): Promise<BoundedFile> {
    if (this.#file !== null && (await this.#isUntouched())) return this.#file;
    await this.#letGo();
    await this.#renaming;
    await LOG_FILES.makeFolder(dirname(this.#path), FOLDER_MODE);
    await this.#find();
    const file = await LOG_FILES.open(this.#path, APPEND, FILE_MODE);
    this.#file = file;
    const facts = await file.stat();
    const isOther = this.#identity !== null && !isSame(facts, this.#identity);
    if (isOther || (this.#identity !== null && facts.isFile() && facts.size < this.#size)) {
      // Positions in the former file must not be taken for positions in this one.
      this.#gone = { number: this.#number, size: this.#size, goOnAt: facts.size };
      this.#number += 1;
      this.#remark = TAKEN_AWAY;
    }
    this.#identity = { dev: facts.dev, ino: facts.ino };
    this.#size = facts.size;
    const end = await bytesOf(file, Math.max(0, this.#size - 1), this.#size);
    if (end.length > 0 && end[0] !== NEWLINE) {
      await file.append("\n");
      this.#size += 1;
    }
    return file;
  }

  /** Is the open file still the one at its path, with what was written to it and nothing else? */
  async #isUntouched(): Promise<boolean> {
    for (;;) {
      // Whoever renames is told where that fails.
      await this.#renaming?.catch(() => undefined);
      const path = this.#path;
      const facts = await orNull(LOG_FILES.lstat(path));
      if (this.#path !== path || this.#renaming !== null) continue;
      // What is no file, such as a pipe, has no size.
      return facts !== null && isSame(facts, this.#identity) && (!facts.isFile() || facts.size === this.#size);
    }
  }

  async #letGo(): Promise<void> {
    const file = this.#file;
    this.#file = null;
    // What failed to be written was told of already.
    await file?.close().catch(this.#onError);
  }

  async #rename(work: () => Promise<void>): Promise<void> {
    // Whoever began that one is told where it fails.
    while (this.#renaming !== null) await this.#renaming.catch(() => undefined);
    const renaming = work();
    this.#renaming = renaming;
    try {
      await renaming;
    } finally {
      this.#renaming = null;
    }
  }

  async #putAside(file: BoundedFile): Promise<void> {
    // First, so that a full disk has room for the mark.
    await this.#deleteOldest(Math.max(1, this.#limits.files - 1));
    const number = await freeNumber(this.#path, this.#number);
    await file.append(markOf(number));
    await this.#letGo();
    await LOG_FILES.rename(this.#path, `${this.#path}.${number}`);
    this.#aside.push(number);
    if (number !== this.#number) this.#renumbered = { from: this.#number, to: number };
    this.#number = number + 1;
    this.#size = 0;
    this.#identity = null;
    await this.#deleteOldest(this.#limits.files);
  }

  /** Deletes until fewer than so many are aside. */
  async #deleteOldest(fewerThan: number): Promise<void> {
    for (let oldest = this.#aside[0]; oldest !== undefined; oldest = this.#aside[0]) {
      if (this.#aside.length < fewerThan) return;
      await LOG_FILES.removeFile(`${this.#path}.${oldest}`);
      this.#aside.shift();
    }
  }

  #find(): Promise<void> {
    this.#found ??= this.#lookAtDisk().catch((error: unknown) => {
      this.#found = null;
      throw error;
    });
    return this.#found;
  }

  async #lookAtDisk(): Promise<void> {
    this.#aside = await numbersAside(this.#path);
    this.#number = (this.#aside.at(-1) ?? 0) + 1;
    this.#size = (await orNull(LOG_FILES.lstat(this.#path)))?.size ?? 0;
  }
}

function encode(source: LogSource, line: string, nowMs: number, continued = false): Buffer {
  const entry: LogLine = { at: new Date(nowMs).toISOString(), source, line, ...(continued ? { continued } : {}) };
  return Buffer.from(`${JSON.stringify(entry)}\n`);
}

/** null for what is no entry: an empty line, or one that was cut off. */
function decode(entry: Buffer): LogLine | null {
  if (entry.length === 0) return null;
  try {
    return logLine.safeParse(JSON.parse(entry.toString("utf8"))).data ?? null;
  } catch {
    return null;
  }
}

function linesOf(chunk: Buffer, file: number, offset: number) {
  const lines: { line: LogLine; after: LogPosition }[] = [];
  let begin = 0;
  for (let end = chunk.indexOf(NEWLINE); end !== -1; end = chunk.indexOf(NEWLINE, begin)) {
    const line = decode(chunk.subarray(begin, end));
    begin = end + 1;
    if (line !== null) lines.push({ line, after: { file, offset: offset + begin } });
  }
  return lines;
}

/** Bytes of a file, fewer where it ends before. */
async function bytesOf(file: BoundedFile, from: number, to: number): Promise<Buffer> {
  const buffer = Buffer.allocUnsafe(Math.max(0, to - from));
  let length = 0;
  while (length < buffer.length) {
    const count = await file.readInto(buffer, length, from + length);
    if (count === 0) break;
    length += count;
  }
  return buffer.subarray(0, length);
}

const isSame = (facts: Stats, identity: Identity | null): boolean =>
  facts.dev === identity?.dev && facts.ino === identity.ino;

/** null where there is no file, or another than the one that was written to. */
async function openCurrent(path: string, identity: Identity | null): Promise<BoundedFile | null> {
  const file = await orNull(LOG_FILES.open(path, READ));
  if (file === null || identity === null || isSame(await file.stat(), identity)) return file;
  await file.close();
  return null;
}

/** null where there is no file, or something else has taken its place. */
async function openAside(path: string): Promise<BoundedFile | null> {
  const file = await orNull(LOG_FILES.open(path, READ), ["ENOENT", "ELOOP"]);
  if (file === null || (await file.stat()).isFile()) return file;
  await file.close();
  return null;
}
