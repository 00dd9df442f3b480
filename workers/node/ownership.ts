import { createHash } from "node:crypto";
import { accessSync, constants, mkdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from "node:fs";
import { connect, createServer, type Server } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import * as z from "zod";

const owner = z.object({
  session: z.string(),
  /** Those before it, oldest first, where Redis has not answered `session` yet: the id may be any one's of them. */
  formerSessions: z.array(z.string()).readonly().default([]),
  incarnation: z.int(),
  pid: z.int(),
  watchdogPid: z.int().nullable(),
});
export type Owner = z.output<typeof owner>;

/** Longest path a Unix socket can have on every system (macOS: 104 with its end). */
const MAX_SOCKET_PATH = 100;
/** Lives in a row that Redis does not answer. More than these outlast a lease, for which the next one waits then. */
const MAX_FORMER = 16;
/** How long the former worker's watchdog may take to end what was left of it. */
const WATCHDOG_MS = 5000;
const CONNECT_MS = 1000;

/** Thrown when another live worker uses the state folder, and so the node's id. */
export class StateFolderTaken extends Error {
  override readonly name = "StateFolderTaken";
}

/** Thrown when the state folder cannot be made, or not be written to. */
export class StateFolderUnusable extends Error {
  override readonly name = "StateFolderUnusable";
}

/**
 * Who has a node's state folder: a file that names the last worker, and a socket that its process listens on. A socket that
 * takes connections is a live process, even one that hangs; one that refuses them is a dead one, whose id can be taken over
 * at once.
 */
export class Ownership {
  readonly #dir: string;
  readonly #server: Server;
  /** The worker that had the folder before, now dead; null where there was none. */
  readonly former: Owner | null;

  private constructor(dir: string, server: Server, former: Owner | null) {
    this.#dir = dir;
    this.#server = server;
    this.former = former;
  }

  /** @throws StateFolderTaken where a live worker has it, StateFolderUnusable where nobody can. */
  static async take(dir: string): Promise<Ownership> {
    makeUsable(dir);
    const path = socketPath(dir);
    const former = readOwner(dir);
    if (await answers(path))
      throw new StateFolderTaken(
        `another worker${former === null ? "" : ` (process ${former.pid})`} lives in ${dir}. ` +
          "Stop it, or give this one another STITCH_NODE_ID and STITCH_STATE_DIR.",
      );
    rmSync(path, { force: true });
    const server = createServer((socket) => socket.destroy());
    await new Promise<void>((resolve, reject) => {
      server.once("error", reject);
      server.listen(path, resolve);
    });
    server.unref();
    if (former?.watchdogPid != null) await gone(former.watchdogPid);
    return new Ownership(dir, server, former);
  }

  /** Writes down who has the folder now. */
  record(now: Owner): void {
    const path = join(this.#dir, "owner.json");
    writeFileSync(`${path}.new`, JSON.stringify(now));
    renameSync(`${path}.new`, path);
  }

  /** The sessions of dead workers that may have the id in Redis, oldest first. */
  get formerSessions(): readonly string[] {
    return this.former === null ? [] : [...this.former.formerSessions, this.former.session].slice(-MAX_FORMER);
  }

  /** Lets the folder go. Safe to repeat. */
  release(): void {
    this.#server.close();
  }
}

function makeUsable(dir: string): void {
  try {
    makeFolder(dir);
    accessSync(dir, constants.W_OK | constants.X_OK);
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new StateFolderUnusable(
      `the state folder ${dir} cannot be used (${reason}). ` +
        "Let this worker's user write there, or set STITCH_STATE_DIR to a folder where it may.",
      { cause },
    );
  }
}

/** Not `recursive`: Node tries for ever where the system says of a new folder that it is not there, as in /proc. */
function makeFolder(dir: string): void {
  if (isFolder(dir)) return;
  makeFolder(dirname(dir));
  try {
    mkdirSync(dir, { mode: 0o700 });
  } catch (error) {
    // Another worker may have been faster.
    if (!isFolder(dir)) throw error;
  }
}

const isFolder = (path: string): boolean => statSync(path, { throwIfNoEntry: false })?.isDirectory() === true;

function socketPath(dir: string): string {
  const inside = join(dir, "owner.sock");
  if (inside.length <= MAX_SOCKET_PATH) return inside;
  return join(tmpdir(), `crossstitch-${createHash("sha256").update(dir).digest("hex").slice(0, 24)}.sock`);
}

function readOwner(dir: string): Owner | null {
  const path = join(dir, "owner.json");
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return null;
    throw error;
  }
  try {
    return owner.parse(JSON.parse(text));
  } catch (cause) {
    throw new Error(`${path} cannot be read; delete it if no worker runs in this folder`, { cause });
  }
}

function answers(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path);
    const done = (live: boolean) => {
      socket.destroy();
      resolve(live);
    };
    // A full backlog of a hung process: it exists.
    socket.setTimeout(CONNECT_MS, () => done(true));
    socket.once("connect", () => done(true));
    socket.once("error", () => done(false));
  });
}

async function gone(pid: number): Promise<void> {
  for (const untilMs = Date.now() + WATCHDOG_MS; Date.now() < untilMs; ) {
    try {
      process.kill(pid, 0);
    } catch {
      return;
    }
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
