import type { Stats } from "node:fs";
import { type FileHandle, lstat, mkdir, open, opendir, readdir, rename, rm, rmdir } from "node:fs/promises";
import { dirname, join } from "node:path";
import { LATE, orLate } from "../../../src/bounded-wait.ts";
import { errorCode } from "../../../src/error-text.ts";

/**
 * Files on a filesystem that may not answer, for example on a server that is gone. Each operation holds one of libuv's threads
 * until it is answered. The same threads resolve host names: if all of them are held, no connection to Redis can be made. So
 * there are more threads than file operations can hold, and a caller that waits for an answer gives up in time.
 *
 * Nothing here is synchronous: a blocked event loop costs the node its lease.
 */

/** How long a caller that must go on waits for an answer. */
export const ANSWER_MS = 5000;
/** How many operations run at once. Together with those of the worker's own files, they leave half of the threads to others. */
const LOG_PLACES = 3;
const DATA_PLACES = 2;
/** How many folders are looked into at the same time: if as many do not answer, no other folder is looked into. */
export const LOOKS_AT_ONCE = 1;
/** https://docs.libuv.org/en/v1.x/threadpool.html: libuv reads the number at the pool's first use. */
const THREADS = 16;
/**
 * How many operations may wait for a place. If a disk does not answer, abandoned operations must not collect for ever; a worker
 * has some for each of its stitches.
 */
const MOST_WAITING = 20_000;
/** At its end, the process does not wait for an operation that has been unanswered for this long. */
const HUNG_MS = 500;

/** The start time of each operation that is under way. */
const underWay = new Set<{ readonly sinceMs: number }>();
export const operationsUnderWay = (): number => underWay.size;

/**
 * Call this once, before this process touches a file or looks up a host. It provides enough threads, and lets the process end
 * even if some of them hang.
 */
export function useManyThreads(): void {
  if (Number(process.env["UV_THREADPOOL_SIZE"] ?? 0) < THREADS) process.env["UV_THREADPOOL_SIZE"] = String(THREADS);
  process.on("exit", (code) => {
    const nowMs = performance.now();
    if ([...underWay].some(({ sinceMs }) => nowMs - sinceMs > HUNG_MS)) endAtOnce(code);
  });
}

/** Node joins its threads before it ends, and waits for ever if one hangs. Another program in its place ends them all. */
function endAtOnce(code: number): void {
  if (process.execve === undefined) process.kill(process.pid, "SIGKILL");
  else process.execve(process.execPath, [process.execPath, "-e", `process.exit(${code})`], {});
}

/** Thrown when a file or folder has not answered in time. */
export class NoAnswer extends Error {
  override readonly name = "NoAnswer";
}

/** Waits for work on a path, at most `ANSWER_MS`. Late work goes on. @throws what the work throws; NoAnswer. */
export async function answered<T>(path: string, work: Promise<T>): Promise<T> {
  const answer = await orLate(work, ANSWER_MS);
  if (answer !== LATE) return answer;
  throw new NoAnswer(
    `${path} has not answered for ${ANSWER_MS / 1000} s; see to its disk, or to what is mounted there`,
  );
}

/** Ignores other errors: a later read at the path reports them. @throws NoAnswer */
export async function mustAnswer(path: string): Promise<void> {
  const look = STATE_FILES.run(() => lstat(path)).then(
    () => undefined,
    () => undefined,
  );
  await answered(path, look);
}

/** Limits how many file operations are under way at once; the others wait, in order. */
export class FilePlaces {
  #free: number;
  readonly #waiting: (() => void)[] = [];

  constructor(places: number) {
    this.#free = places;
  }

  /** @throws what the operation throws; NoAnswer if too many operations wait. */
  async run<T>(operation: () => Promise<T>): Promise<T> {
    if (this.#waiting.length >= MOST_WAITING)
      throw new NoAnswer(`${MOST_WAITING} operations wait for files that have not answered; see to the disk`);
    if (this.#free > 0) this.#free -= 1;
    else await new Promise<void>((resolve) => this.#waiting.push(resolve));
    const one = { sinceMs: performance.now() };
    underWay.add(one);
    try {
      return await operation();
    } finally {
      underWay.delete(one);
      const next = this.#waiting.shift();
      if (next === undefined) this.#free += 1;
      else next();
    }
  }
}

/** An open file. Its operations are bounded in the same way as those of `BoundedFiles`. */
export class BoundedFile {
  readonly #file: FileHandle;
  readonly #places: FilePlaces;

  constructor(file: FileHandle, places: FilePlaces) {
    this.#file = file;
    this.#places = places;
  }

  stat(): Promise<Stats> {
    return this.#places.run(() => this.#file.stat());
  }

  append(data: Buffer | string): Promise<void> {
    return this.#places.run(() => this.#file.appendFile(data));
  }

  /** @returns how many bytes were read; 0 at the end of the file. */
  async readInto(buffer: Buffer, offset: number, position: number): Promise<number> {
    const { bytesRead } = await this.#places.run(() =>
      this.#file.read(buffer, offset, buffer.length - offset, position),
    );
    return bytesRead;
  }

  close(): Promise<void> {
    return this.#places.run(() => this.#file.close());
  }
}

/** The operations of `node:fs/promises` that are needed here, with a limit on how many run at once. */
export class BoundedFiles {
  readonly #places: FilePlaces;

  constructor(atOnce: number) {
    this.#places = new FilePlaces(atOnce);
  }

  lstat(path: string): Promise<Stats> {
    return this.#places.run(() => lstat(path));
  }

  /**
   * Is there anything at this path? A link counts, wherever it leads. To find out, this tries to make a folder there: that asks
   * only the folder above, and not a filesystem that is mounted at the path, which may not answer.
   */
  async isThere(path: string): Promise<boolean> {
    try {
      await this.#places.run(() => mkdir(path, 0o700));
    } catch (error) {
      const code = errorCode(error);
      if (code === "EEXIST") return true;
      // A full disk refuses a new folder only if there is nothing at the path.
      if (typeof code === "string" && ["ENOENT", "ENOSPC", "EDQUOT"].includes(code)) return false;
      throw error;
    }
    await this.#places.run(() => rmdir(path));
    return false;
  }

  /** Makes a folder and the folders above it. Safe to repeat: an existing folder, which may not answer, is not accessed. */
  async makeFolder(path: string, mode: number): Promise<void> {
    const make = () => this.#places.run(() => mkdir(path, mode));
    try {
      await orNull(make(), ["EEXIST"]);
    } catch (error) {
      if (errorCode(error) !== "ENOENT") throw error;
      await this.makeFolder(dirname(path), mode);
      await orNull(make(), ["EEXIST"]);
    }
  }

  /** The names in a folder; none if the folder does not exist. */
  async names(path: string): Promise<string[]> {
    return (await orNull(this.#places.run(() => readdir(path)))) ?? [];
  }

  /** Is there anything in this folder? @throws if the folder does not exist. */
  hasEntry(path: string): Promise<boolean> {
    return this.#places.run(async () => {
      const dir = await opendir(path);
      try {
        return (await dir.read()) !== null;
      } finally {
        await dir.close();
      }
    });
  }

  async open(path: string, flags: number, mode?: number): Promise<BoundedFile> {
    return new BoundedFile(await this.#places.run(() => open(path, flags, mode)), this.#places);
  }

  rename(from: string, to: string): Promise<void> {
    return this.#places.run(() => rename(from, to));
  }

  /** Safe to repeat. */
  removeFile(path: string): Promise<void> {
    return this.#places.run(() => rm(path, { force: true }));
  }

  /**
   * Deletes a file, or a folder with all that is in it, one entry after the other: Node's own function would start the deletion
   * of all entries of a folder at once. Safe to repeat.
   */
  async removeTree(path: string): Promise<void> {
    const facts = await orNull(this.lstat(path));
    if (facts === null) return;
    if (!facts.isDirectory()) return this.removeFile(path);
    for (const name of await this.names(path)) await this.removeTree(join(path, name));
    await orNull(this.#places.run(() => rmdir(path)));
  }
}

/** For the journal and the other files that a worker keeps for itself: they are written in order. */
export const STATE_FILES = new FilePlaces(1);
export const LOG_FILES = new BoundedFiles(LOG_PLACES);
export const DATA_FOLDERS = new BoundedFiles(DATA_PLACES);
/** For work that nobody waits for: looking into data folders, and deleting them. */
export const LOOKS = new BoundedFiles(LOOKS_AT_ONCE);
export const DELETIONS = new BoundedFiles(1);

/** null if the file or folder does not exist. */
export async function orNull<T>(work: Promise<T>, codes: readonly unknown[] = ["ENOENT"]): Promise<T | null> {
  try {
    return await work;
  } catch (error) {
    if (codes.includes(errorCode(error))) return null;
    throw error;
  }
}
