import { accessSync, constants, mkdirSync, readFileSync, rmSync, statSync } from "node:fs";
import { dirname, join } from "node:path";
import type { DatabaseSync } from "node:sqlite";
import * as z from "zod";
import { pause } from "../../../src/bounded-wait.ts";
import { errorText } from "../../../src/error-text.ts";
import { mustAnswer } from "../files/bounded-files.ts";
import { checkOwnFolder, FOLDER_MODE, keepOwnFile, NotOwn, readOwnFile, replaceOwnFile } from "../files/own-files.ts";
import { readProcess } from "../processes/process-table.ts";

const owner = z.object({
  session: z.string(),
  /** The sessions before this one, oldest first. */
  formerSessions: z.array(z.string()).readonly(),
  incarnation: z.int(),
  pid: z.int(),
  watchdogPid: z.int().nullable(),
});
export type Owner = z.output<typeof owner>;

/** Sessions in the lineage, including the current one. More workers than these, one after the other, outlast a lease. */
const MAX_LINEAGE = 16;
/** How long the former worker's watchdog may take to end the processes that the worker left. */
const WATCHDOG_MS = 5000;
/** If a watchdog is still a child of its worker this long after the lock became free, the worker is alive. */
const ORPHANED_MS = 1000;
/** Two workers that try at once may see each other's try: one of them has the lock within this time. */
const LOCK_MS = 100;
const SQLITE_BUSY = 5;
const SQLITE_CANTOPEN = 14;

/** Thrown when another live worker uses the state folder, and so the node's id. */
export class StateFolderTaken extends Error {
  override readonly name = "StateFolderTaken";
}

/** Thrown when the state folder cannot be made, written to or locked, or when other users could change it. */
export class StateFolderUnusable extends Error {
  override readonly name = "StateFolderUnusable";
}

/**
 * The owner of a node's state folder. The process of the live worker holds a lock on `owner.lock`; `owner.json` names the
 * last owner. The kernel keeps the lock as long as that process lives, even if it hangs, and releases the lock when the
 * process ends for any reason. No child inherits the lock.
 */
export class Ownership {
  readonly #dir: string;
  readonly #lock: DatabaseSync;
  #formerSessions: readonly string[];
  /** The worker that had the folder before, now dead; null if there was none. */
  readonly former: Owner | null;

  private constructor(dir: string, lock: DatabaseSync, former: Owner | null) {
    this.#dir = dir;
    this.#lock = lock;
    this.former = former;
    this.#formerSessions = former === null ? [] : [...former.formerSessions, former.session];
  }

  /**
   * @param top `dir` itself or a folder above it, at any depth. From `top` down to `dir`, no other user may write.
   * @param lock locks a file, see `lockFile`.
   * @param warn called if `owner.json` cannot be read, for example after a power cut. The file counts as missing then.
   * @throws if the folder does not answer within 5 s; StateFolderTaken if a live worker has it; StateFolderUnusable if no
   *   worker can use it, or other users could change it.
   */
  static async take(
    dir: string,
    top = dir,
    lock = lockFile,
    warn: (message: string) => void = () => undefined,
  ): Promise<Ownership> {
    await mustAnswer(dir);
    makeUsable(dir, top);
    const held = takeLock(dir, lock);
    try {
      const former = readOwner(dir, warn);
      if (former !== null) await watchdogGone(former, dir);
      return new Ownership(dir, held, former);
    } catch (error) {
      held.close();
      throw error;
    }
  }

  /** Records who has the folder now, with its lineage. @throws if it cannot be written, or not within 5 s. */
  record(now: Omit<Owner, "formerSessions">): Promise<void> {
    const text = JSON.stringify({ ...now, formerSessions: this.#formerSessions } satisfies Owner);
    return replaceOwnFile(join(this.#dir, "owner.json"), text);
  }

  /** The sessions of the workers that had the folder before, oldest first. All of these workers are dead. */
  get formerSessions(): readonly string[] {
    return this.#formerSessions;
  }

  /** Forgets the oldest former sessions, but none of `needed`. */
  forgetOldest(needed: ReadonlySet<string>): void {
    const old = this.#formerSessions.length - (MAX_LINEAGE - 1);
    this.#formerSessions = this.#formerSessions.filter((session, index) => index >= old || needed.has(session));
  }

  /** Releases the folder. If the folder does not answer, the end of the process releases it. Safe to repeat. */
  async release(): Promise<void> {
    // SQLite accesses the path of a file that it closes, synchronously.
    const answers = await mustAnswer(this.#dir).then(
      () => true,
      () => false,
    );
    if (answers && this.#lock.isOpen) this.#lock.close();
  }
}

function takeLock(dir: string, lock: typeof lockFile): DatabaseSync {
  const path = join(dir, "owner.lock");
  try {
    return lock(path);
  } catch (cause) {
    if (cause instanceof NotOwn) throw unusable(dir, cause, cause.message, THIS_USERS_ALONE);
    const code = cause instanceof Error && "errcode" in cause ? cause.errcode : null;
    if (code === SQLITE_BUSY && canLock(dir, lock)) {
      const pid = pidOf(dir);
      throw new StateFolderTaken(
        `another worker${pid === null ? "" : ` (process ${pid})`} lives in ${dir}. ` +
          "Stop it, or give this one another STITCH_NODE_ID and STITCH_STATE_DIR.",
        { cause },
      );
    }
    if (code === SQLITE_CANTOPEN || (cause instanceof Error && "syscall" in cause))
      throw unusable(dir, cause, `${path} cannot be opened to write: ${errorText(cause)}`, USER_MAY_WRITE);
    throw unusable(
      dir,
      cause,
      `its filesystem refuses to lock ${path}: ${errorText(cause)}`,
      "Set STITCH_STATE_DIR to a folder on a filesystem that knows file locks, such as a local disk.",
    );
  }
}

/**
 * Locks a file for this process, until the process ends or closes the
 * returned database. It is a lock of SQLite, because Node itself has none.
 * @throws an error with SQLite's `errcode`.
 */
function lockFile(path: string): DatabaseSync {
  const { DatabaseSync } = sqlite();
  keepOwnFile(path);
  const lock = new DatabaseSync(path, { timeout: LOCK_MS });
  try {
    // Nothing is written: the file stays empty, and there is never a journal beside it.
    lock.exec("PRAGMA journal_mode = MEMORY; BEGIN EXCLUSIVE");
  } catch (error) {
    lock.close();
    throw error;
  }
  return lock;
}

/** Loads SQLite silently: Node before 24.15 warns that this module may change, on the stderr that holds the worker's log. */
function sqlite(): { readonly DatabaseSync: typeof DatabaseSync } {
  const emitWarning = process.emitWarning.bind(process);
  process.emitWarning = () => undefined;
  try {
    return process.getBuiltinModule("node:sqlite");
  } finally {
    process.emitWarning = emitWarning;
  }
}

/** Can a file that no other process knows be locked there? Some filesystems without locks report every file as locked. */
function canLock(dir: string, lock: typeof lockFile): boolean {
  const path = join(dir, `owner.lock.${process.pid}`);
  try {
    lock(path).close();
    return true;
  } catch {
    return false;
  } finally {
    rmSync(path, { force: true });
  }
}

/** For a message only. */
function pidOf(dir: string): number | null {
  try {
    return readOwner(dir, () => undefined)?.pid ?? null;
  } catch {
    // The worker that gets the lock reports the unreadable file.
    return null;
  }
}

const USER_MAY_WRITE = "Let this worker's user write there, or set STITCH_STATE_DIR to a folder where it may.";
const THIS_USERS_ALONE =
  "Look at what is in it and make it this user's alone (chown, chmod 700), or set STITCH_STATE_DIR to a folder that is.";
const unusable = (dir: string, cause: unknown, reason: string, next: string): StateFolderUnusable =>
  new StateFolderUnusable(`the state folder ${dir} cannot be used (${reason}). ${next}`, { cause });

function makeUsable(dir: string, top: string): void {
  try {
    makeFolder(dir);
    checkOwnFolder(dir, top);
    accessSync(dir, constants.W_OK | constants.X_OK);
  } catch (cause) {
    throw unusable(dir, cause, errorText(cause), cause instanceof NotOwn ? THIS_USERS_ALONE : USER_MAY_WRITE);
  }
}

/** Not `recursive`: Node tries for ever if the system reports a new folder as missing, as in /proc. */
function makeFolder(dir: string): void {
  if (isFolder(dir)) return;
  makeFolder(dirname(dir));
  try {
    mkdirSync(dir, { mode: FOLDER_MODE });
  } catch (error) {
    // Another worker may have been faster.
    if (!isFolder(dir)) throw error;
  }
}

const isFolder = (path: string): boolean => statSync(path, { throwIfNoEntry: false })?.isDirectory() === true;

/**
 * If `owner.json` cannot be read, the lock has already shown that no worker lives here. Unknown are then only the sessions
 * of processes that might be left, and a power cut leaves none.
 */
function readOwner(dir: string, warn: (message: string) => void): Owner | null {
  const path = join(dir, "owner.json");
  try {
    const bytes = readOwnFile(path);
    return bytes === null ? null : owner.parse(JSON.parse(bytes.toString()));
  } catch (cause) {
    if (cause instanceof NotOwn) throw unusable(dir, cause, cause.message, THIS_USERS_ALONE);
    warn(
      `${path} cannot be read (${errorText(cause)}) and is written anew: ` +
        "processes of a former worker are known from stitches.jsonl alone; end what else runs of it",
    );
    return null;
  }
}

/**
 * Resolves when the watchdog of the former worker has ended, or after `WATCHDOG_MS`.
 * @throws StateFolderTaken if that worker is alive: its stitches are not orphans, no matter who has the lock.
 */
async function watchdogGone({ pid, watchdogPid, session }: Owner, dir: string): Promise<void> {
  const sinceMs = performance.now();
  while (watchdogPid !== null && isWatchdog(watchdogPid, session)) {
    const waitedMs = performance.now() - sinceMs;
    if (waitedMs > ORPHANED_MS && readProcess(watchdogPid)?.parent === pid)
      throw new StateFolderTaken(
        `the worker that owner.json in ${dir} names (process ${pid}) lives: this is a copy of its state folder, or ` +
          "owner.lock was deleted. Stop it, or give this one another STITCH_NODE_ID and STITCH_STATE_DIR.",
      );
    if (waitedMs > WATCHDOG_MS) return;
    await pause(20);
  }
}

/**
 * Is this process that watchdog? Its pid may be another process's
 * now, above all after a restart of the machine or container.
 */
function isWatchdog(pid: number, session: string): boolean {
  try {
    if (process.platform === "linux") return readFileSync(`/proc/${pid}/cmdline`, "latin1").includes(session);
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}
