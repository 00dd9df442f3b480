import type { Stats } from "node:fs";
import { dirname } from "node:path";
import type { LogPosition } from "../../../src/domain/stitch/log-line.ts";
import { type BoundedFile, LOG_FILES, orNull } from "../files/bounded-files.ts";
import { APPEND, FILE_MODE, FOLDER_MODE, READ } from "../files/own-files.ts";
import { freeNumber, markOf, numbersAside } from "./log-files.ts";

const NEWLINE = 10;

const TAKEN_AWAY =
  "its log file was moved away, deleted, replaced or cut short by another program; the log goes on here";

/** A file that others took away or cut short: its number, its size then, and where its successor's own lines begin. */
type Gone = { readonly number: number; readonly size: number; readonly goOnAt: number };
type Identity = { readonly dev: number; readonly ino: number };

/**
 * A file that is put aside when it is full, as `<path>.<n>`, with rising n; the oldest file is deleted. So a file keeps its
 * number for ever, and a position stays valid across rotation and restarts. If others move away, delete, replace or cut short
 * the current file (logrotate, a person), this is noticed when it is opened to write: later data goes to a new file with a new
 * number. The current file is the one that is written to.
 */
export class RotatingFile {
  readonly #onError: (error: unknown) => void;
  /** How many files are kept, including the current one. */
  readonly #mostFiles: number;
  #path: string;
  /** Resolves when the numbers below are known from the disk. */
  #found: Promise<void> | null = null;
  /** The number that the current file gets when it is put aside. */
  #number = 1;
  /** The numbers of the files that were put aside, in rising order. */
  #aside: number[] = [];
  /** Bytes of whole entries in the current file. */
  #size = 0;
  #file: BoundedFile | null = null;
  /** The file that was last written to under the path; null if there is none yet. */
  #identity: Identity | null = null;
  /** The last file that others took away. */
  #gone: Gone | null = null;
  /** The last file that was put aside under another number than its own, because a file of others had that name. */
  #renumbered: { readonly from: number; readonly to: number } | null = null;
  /** What happened to the previous file; not reported yet. */
  #remark: string | null = null;
  /** Set while files are renamed. */
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

  /** What happened to the previous file; null if nothing did, or it was taken already. */
  takeRemark(): string | null {
    const remark = this.#remark;
    this.#remark = null;
    return remark;
  }

  /** Writes whole entries to the open file. */
  async append(bytes: Buffer): Promise<void> {
    const file = this.#file ?? (await this.openToWrite());
    await file.append(bytes);
    this.#size += bytes.length;
  }

  /** Renames all files. A reader continues there, and later data is written there. */
  async moveTo(path: string): Promise<void> {
    await this.#rename(async () => {
      await LOG_FILES.makeFolder(dirname(path), FOLDER_MODE);
      for (const number of this.#aside) await orNull(LOG_FILES.rename(`${this.#path}.${number}`, `${path}.${number}`));
      await orNull(LOG_FILES.rename(this.#path, path));
      this.#path = path;
    });
  }

  /** Where the data of a position is now. `lost`: the data is gone, and the result is where the next remaining data begins. */
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

  /** Opens a file by its number; null if there is none. */
  async openNumber(number: number): Promise<BoundedFile | null> {
    for (;;) {
      await this.#renaming;
      const current = this.#number;
      const path = this.#path;
      const file = number === current ? await openCurrent(path, this.#identity) : await openAside(`${path}.${number}`);
      // Files were renamed meanwhile: the opened file may be another one.
      if (this.#number === current && this.#path === path && this.#renaming === null) return file;
      await file?.close();
    }
  }

  /** Opens the current file, unless it is open and still the one that the path leads to. */
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
      // Positions in the previous file must not be taken for positions in this one.
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

  /** Is the open file still the one at its path, with exactly the data that was written to it? */
  async #isUntouched(): Promise<boolean> {
    for (;;) {
      // An error is reported to the caller that renames.
      await this.#renaming?.catch(() => undefined);
      const path = this.#path;
      const facts = await orNull(LOG_FILES.lstat(path));
      if (this.#path !== path || this.#renaming !== null) continue;
      // A path that is not a regular file, such as a pipe, has no size.
      return facts !== null && isSame(facts, this.#identity) && (!facts.isFile() || facts.size === this.#size);
    }
  }

  /** Closes the current file. Safe to repeat. */
  async close(): Promise<void> {
    const file = this.#file;
    this.#file = null;
    // A failed write was reported before.
    await file?.close().catch(this.#onError);
  }

  async #rename(work: () => Promise<void>): Promise<void> {
    // An error is reported to the caller that began the other rename.
    while (this.#renaming !== null) await this.#renaming.catch(() => undefined);
    const renaming = work();
    this.#renaming = renaming;
    try {
      await renaming;
    } finally {
      this.#renaming = null;
    }
  }

  /** Puts the current file aside under its number; later data goes to a new file. */
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

  /** Deletes the oldest files until fewer than `fewerThan` are aside. */
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

/** Bytes of a file; fewer if the file ends before `to`. */
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

/** Opens a file if it is the one that is meant; null if it is not there, or another one. */
async function openIf(
  path: string,
  mayBeMissing: readonly string[],
  isMeant: (facts: Stats) => boolean,
): Promise<BoundedFile | null> {
  const file = await orNull(LOG_FILES.open(path, READ), mayBeMissing);
  if (file === null) return null;
  const isIt = await file.stat().then(isMeant, async (error: unknown) => {
    await file.close();
    throw error;
  });
  if (isIt) return file;
  await file.close();
  return null;
}

/** null if there is no file, or another file than the one that was written to. */
const openCurrent = (path: string, identity: Identity | null): Promise<BoundedFile | null> =>
  openIf(path, ["ENOENT"], (facts) => identity === null || isSame(facts, identity));

/** null if there is no file, or something else has taken its place. */
const openAside = (path: string): Promise<BoundedFile | null> =>
  openIf(path, ["ENOENT", "ELOOP"], (facts) => facts.isFile());
