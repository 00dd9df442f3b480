import { type ChildProcess, spawn } from "node:child_process";
import { mkdir, open, rename } from "node:fs/promises";
import { join } from "node:path";
import { errorCode } from "../../error-text.ts";
import type { Guard } from "../processes/guard.ts";
import { tailOfFile } from "../processes/tail-of-file.ts";
import { UsageError } from "../terminal/usage-error.ts";
import { waitUntil } from "../processes/wait-until.ts";

/** A node worker ends its stitches first, with 5 s of grace by default, and leaves the cluster. */
const STOP_LIMIT_MS = 20_000;
const LOG_LINES = 15;

/** A process of the cluster that `stitch up` started. */
export type Part = {
  readonly name: string;
  readonly logFile: string;
  /** How it ended; null while it runs. */
  readonly end: () => string | null;
  readonly ended: Promise<string>;
  /** SIGTERM, SIGKILL after 20 s; resolves when it has ended. May be called twice and at once. */
  stop(): Promise<void>;
  kill(): void;
};

type PartOptions = {
  readonly name: string;
  readonly role: "api" | "master" | "node";
  /** The whole environment of the process. */
  readonly env: Readonly<Record<string, string>>;
  /** Where the folder of this process and the logs are. */
  readonly home: string;
  readonly guard: Guard;
  /** Start it again whenever a file that it has loaded changes? */
  readonly watch: boolean;
};

/** Node's own watcher: it stops the process with SIGTERM, and waits for its end before it starts the next one. */
const WATCH = ["--watch", "--watch-preserve-output"];

/** Starts `stitch api|master|node` as a process of its own, in a folder of its own, with its output in a log file. */
export async function startPart({ name, role, env, home, guard, watch }: PartOptions): Promise<Part> {
  const [cwd, logs] = [join(home, name), join(home, "logs")];
  await Promise.all([cwd, logs].map((folder) => mkdir(folder, { recursive: true })));
  const logFile = join(logs, `${name}.log`);
  await keepFormer(logFile);
  const log = await open(logFile, "w");
  // The same program as this process.
  const [, main = ""] = process.argv;
  const child = spawn(process.execPath, [...(watch ? WATCH : []), main, role], {
    cwd,
    env,
    // In a session of its own: Ctrl-C on the terminal reaches `stitch up` alone, which ends its parts in order.
    detached: true,
    stdio: ["ignore", log.fd, log.fd],
  });
  const { pid } = child;
  if (pid !== undefined) guard.add(pid);
  await log.close();

  let end: string | null = null;
  const ended = new Promise<string>((resolve) => {
    const finish = (how: string): void => {
      if (pid !== undefined) guard.remove(pid);
      end = how;
      resolve(how);
    };
    child.once("error", (error) => finish(error.message));
    child.once("exit", (code, signal) => finish(signal ?? `exit code ${code}`));
  });
  let stopping: Promise<void> | null = null;
  const stop = async (): Promise<void> => {
    child.kill("SIGTERM");
    const force = setTimeout(() => killGroup(child), STOP_LIMIT_MS);
    await ended;
    clearTimeout(force);
  };
  return {
    name,
    logFile,
    ended,
    end: () => end,
    stop: () => {
      stopping ??= stop();
      return stopping;
    },
    // The whole group: a watcher killed alone would leave its process behind.
    kill: () => killGroup(child),
  };
}

function killGroup({ pid }: ChildProcess): void {
  if (pid === undefined) return;
  try {
    process.kill(-pid, "SIGKILL");
  } catch (error) {
    if (errorCode(error) !== "ESRCH") throw error;
  }
}

/**
 * Waits until `ready`, as long as all of `parts` live.
 * @param missing says what is not ready yet.
 * @throws UsageError with that and the last lines of the logs.
 */
export async function untilReady(
  parts: readonly Part[],
  ready: () => Promise<boolean>,
  missing: () => string,
  limitMs: number,
  signal: AbortSignal,
): Promise<void> {
  const dead = (): Part[] => parts.filter((part) => part.end() !== null);
  const done = await waitUntil(async () => dead().length > 0 || (await ready()), limitMs, signal);
  if (dead().length > 0) {
    throw new UsageError(`${dead().map(howItEnded).join("\n")}\n${await logsOf(dead())}`);
  }
  if (!done) throw new UsageError(`after ${limitMs / 1000} s: ${missing()}\n${await logsOf(parts)}`);
}

const howItEnded = (part: Part): string => `${part.name} has ended: ${part.end()}`;

/** The last lines of each part's log, under the file's name. */
export async function logsOf(parts: readonly Part[]): Promise<string> {
  const texts = parts.map(async ({ logFile }) => `${logFile}:\n${(await tailOfFile(logFile, LOG_LINES)) || "(empty)"}`);
  return (await Promise.all(texts)).join("\n");
}

/** The log of the run before is kept, so that a crash can still be read about after a new start. */
async function keepFormer(logFile: string): Promise<void> {
  try {
    await rename(logFile, `${logFile}.old`);
  } catch (error) {
    if (errorCode(error) !== "ENOENT") throw error;
  }
}
