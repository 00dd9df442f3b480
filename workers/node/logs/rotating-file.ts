import type { Stats } from "node:fs";
import { dirname } from "node:path";
import type { LogPosition } from "../../../src/domain/stitch/log-line.ts";
import { type BoundedFile, LOG_FILES, orNull } from "../files/bounded-files.ts";
import { APPEND, FILE_MODE, FOLDER_MODE, READ } from "../files/own-files.ts";
import { freeNumber, markOf, numbersAside } from "./log-files.ts";

const NEWLINE = 10;

const TAKEN_AWAY =
  "its log file was moved away, deleted, replaced or cut short by another program; the log goes on here";

/** A file that others took away or cut short: its number, what it held then, and where its successor's own lines begin. */
type Gone = { readonly number: number; readonly size: number; readonly goOnAt: number };
type Identity = { readonly dev: number; readonly ino: number };

/**
 * A file that is put aside when it is full, as `<path>.<n>`, n rising; the oldest is deleted. So a file keeps its number for ever,
 * and a position stays what it is, over rotation and restarts. A file that others move away, delete, replace or cut short (logrotate,
 * a person) is noticed when it is opened to write: what is written then goes to a new file, under a new number.
 */
export class RotatingFile {
  readonly #onError: (error: unknown) => void;
  /** Files that are kept, the one that is written to among them. */
  readonly #mostFiles: number;
  #path: string;
  /** Resolves when the numbers below are known from the disk. */
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

  constructor(path: string, mostFiles: number, onError: (error: unknown) => void) {
    this.#path = path;
    this.#mostFiles = mostFiles;
    this.#onError = onError;
  }

  get isOpen(): boolean {
    return this.#file !== null;
  }

  /** Where the next entry will be. */
  get end(): LogPosition {
    return { file: this.#number, offset: this.#size };
  }

  /** The numbers of all files, the newest first. */
  get numbers(): number[] {
    return [this.#number, ...this.#aside.toReversed()];
  }

  /** What befell the file that was written to before, where that was not taken yet. */
  takeRemark(): string | null {
    const remark = this.#remark;
    this.#remark = null;
    return remark;
  }

  /** Writes whole entries to the file that is open. */
  async append(bytes: Buffer): Promise<void> {
    const file = this.#file ?? (await this.openToWrite());
    await file.append(bytes);
    this.#size += bytes.length;
  }

  /** Gives all its files other names. Who reads it reads on there, and what is written later goes there. */
  async moveTo(path: string): Promise<void> {
    await this.#rename(async () => {
      await LOG_FILES.makeFolder(dirname(path), FOLDER_MODE);
      for (const number of this.#aside) await orNull(LOG_FILES.rename(`${this.#path}.${number}`, `${path}.${number}`));
      await orNull(LOG_FILES.rename(this.#path, path));
      this.#path = path;
    });
  }

  /** Where what stood at a position is by now. `lost`: it is gone; then it is where the next that is left begins. */
  locate({ file: asked, offset }: LogPosition): LogPosition & { readonly lost: boolean } {
    const last = this.#number;
    const file = this.#renumbered?.from === asked ? this.#renumbered.to : asked;
    if (file > last || (file === last && offset > this.#size))
      return { file: this.#aside[0] ?? last, offset: 0, lost: true };
    if (file === last || this.#aside.includes(file)) return { file, offset, lost: false };
    return { ...this.startAfter(file), lost: this.#gone?.number !== file || offset < this.#gone.size };
  }

  /** Where the lines after those of a file begin. */
  startAfter(number: number): LogPosition {
    const file = this.#aside.find((one) => one > number) ?? this.#number;
    const isSuccessor = this.#gone !== null && file === this.#gone.number + 1;
    return { file, offset: isSuccessor ? (this.#gone?.goOnAt ?? 0) : 0 };
  }

  /** Opens a file by its number; null where there is none. */
  async openNumber(number: number): Promise<BoundedFile | null> {
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

  /** Opens the file that is written to, unless it is open, and still the one that the path leads to. */
  async openToWrite(): Promise<BoundedFile> {
    if (this.#file !== null && (await this.#isUntouched())) return this.#file;
    await this.close();
    await this.#renaming;
    await LOG_FILES.makeFolder(dirname(this.#path), FOLDER_MODE);
    await this.find();
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

  /** Lets go of the file that is written to. Safe to repeat. */
  async close(): Promise<void> {
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

  /** Puts the file that is written to aside, under its number; what is written next goes to a new one. */
  async putAside(): Promise<void> {
    const file = this.#file ?? (await this.openToWrite());
    await this.#rename(() => this.#putAside(file));
  }

  async #putAside(file: BoundedFile): Promise<void> {
    // First, so that a full disk has room for the mark.
    await this.#deleteOldest(Math.max(1, this.#mostFiles - 1));
    const number = await freeNumber(this.#path, this.#number);
    await file.append(markOf(number));
    await this.close();
    await LOG_FILES.rename(this.#path, `${this.#path}.${number}`);
    this.#aside.push(number);
    if (number !== this.#number) this.#renumbered = { from: this.#number, to: number };
    this.#number = number + 1;
    this.#size = 0;
    this.#identity = null;
    await this.#deleteOldest(this.#mostFiles);
  }

  /** Deletes until fewer than so many are aside. */
  async #deleteOldest(fewerThan: number): Promise<void> {
    for (let oldest = this.#aside[0]; oldest !== undefined; oldest = this.#aside[0]) {
      if (this.#aside.length < fewerThan) return;
      await LOG_FILES.removeFile(`${this.#path}.${oldest}`);
      this.#aside.shift();
    }
  }

  /** Resolves when the files are known from the disk. */
  find(): Promise<void> {
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

/** Bytes of a file, fewer where it ends before. */
export async function bytesOf(file: BoundedFile, from: number, to: number): Promise<Buffer> {
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
