import type { Stats } from "node:fs";
import { type FileHandle, lstat, mkdir, open, opendir, readdir, rename, rm } from "node:fs/promises";
import { within } from "../../src/bounded-wait.ts";
import { errorCode } from "../../src/error-text.ts";

/**
 * Files on a filesystem that may not answer, such as that of a server that is gone. Each operation holds one of libuv's
 * threads until it is answered, and those threads look up the names of hosts, too: with all of them held, no connection to
 * Redis can be made. So there are more threads than are held at most, and whoever waits for an answer gives up in time.
 *
 * Nothing here is synchronous: what the event loop waits for costs the node its lease.
 */

/** So long an answer is waited for by whoever must go on. */
export const ANSWER_MS = 5000;
/** Operations at once. Together with that of the worker's own files they leave more than half of the threads to others. */
const LOG_PLACES = 4;
const DATA_PLACES = 2;
/** https://docs.libuv.org/en/v1.x/threadpool.html: read at the pool's first use. */
const THREADS = 16;
/** At the end of the process, what has not been answered for so long is not waited for. */
const HUNG_MS = 500;

/** When each operation that is under way began. */
const underWay = new Set<{ readonly sinceMs: number }>();
export const operationsUnderWay = (): number => underWay.size;

/**
 * To be called once, before this process touches a file or looks up a host: has enough threads, and lets the process end
 * though some of them hang.
 */
export function useManyThreads(): void {
  if (Number(process.env["UV_THREADPOOL_SIZE"] ?? 0) < THREADS) process.env["UV_THREADPOOL_SIZE"] = String(THREADS);
  process.on("exit", (code) => {
    const nowMs = performance.now();
    if ([...underWay].some(({ sinceMs }) => nowMs - sinceMs > HUNG_MS)) endAtOnce(code);
  });
}

/** Node joins its threads before it ends, for ever where one hangs. Another program in its place ends them all. */
function endAtOnce(code: number): void {
  if (process.execve === undefined) process.kill(process.pid, "SIGKILL");
  else process.execve(process.execPath, [process.execPath, "-e", `process.exit(${code})`], {});
}

/** Waits for an answer about a path, at most `ANSWER_MS`. What is late goes on. @throws what it throws, or that it is late. */
export const answered = <T>(path: string, work: Promise<T>): Promise<T> =>
  within(
    ANSWER_MS,
    work,
    `${path} has not answered for ${ANSWER_MS / 1000} s; see to its disk, or to what is mounted there`,
  );

/** @throws where nothing answers at this path; else whatever is read there later says what is the matter. */
export async function mustAnswer(path: string): Promise<void> {
  const look = DATA_FOLDERS.lstat(path).then(
    () => undefined,
    () => undefined,
  );
  await answered(path, look);
}

/** A number of file operations that are under way at once; the others wait for them, in order. */
export class FilePlaces {
  #free: number;
  readonly #waiting: (() => void)[] = [];

  constructor(places: number) {
    this.#free = places;
  }

  async run<T>(operation: () => Promise<T>): Promise<T> {
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

/** An open file, whose operations are bounded as those of `BoundedFiles` are. */
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

  /** @returns how many bytes were read; none at the end of the file. */
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

/** The operations of `node:fs/promises` that are needed here, a number of them at once. */
export class BoundedFiles {
  readonly #places: FilePlaces;

  constructor(atOnce: number) {
    this.#places = new FilePlaces(atOnce);
  }

  lstat(path: string): Promise<Stats> {
    return this.#places.run(() => lstat(path));
  }

  /** Is there anything at this path? A link counts, wherever it leads. */
  async isThere(path: string): Promise<boolean> {
    return (await orNull(this.lstat(path))) !== null;
  }

  /** With the folders above it. Safe to repeat. */
  async makeFolder(path: string, mode: number): Promise<void> {
    await this.#places.run(() => mkdir(path, { recursive: true, mode }));
  }

  /** The names in a folder; none where it is not there. */
  async names(path: string): Promise<string[]> {
    return (await orNull(this.#places.run(() => readdir(path)))) ?? [];
  }

  /** Is there anything in this folder? @throws where there is no such folder. */
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

  /** Deletes a folder with all that is in it, or a file. Safe to repeat. */
  removeTree(path: string): Promise<void> {
    return this.#places.run(() => rm(path, { recursive: true, force: true }));
  }
}

/** For the journal and the other files that a worker keeps for itself: what is written there is in order. */
export const STATE_FILES = new FilePlaces(1);
export const LOG_FILES = new BoundedFiles(LOG_PLACES);
export const DATA_FOLDERS = new BoundedFiles(DATA_PLACES);

/** null where there is no such file or folder. */
export async function orNull<T>(work: Promise<T>, codes: readonly unknown[] = ["ENOENT"]): Promise<T | null> {
  try {
    return await work;
  } catch (error) {
    if (codes.includes(errorCode(error))) return null;
    throw error;
  }
}
