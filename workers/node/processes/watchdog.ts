import { type ChildProcess, spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import type { GuardedStitch } from "./guarded-groups.ts";

const MAIN = fileURLToPath(
  new URL(import.meta.url.endsWith(".ts") ? "./watchdog-main.ts" : "./watchdog-main.js", import.meta.url),
);

/** Longest time that a stitch which must not outlive the lease runs after it. A replacement on another node waits that long. */
export const STOP_WINDOW_MS = 5000;

/** A dead watchdog is started again after this time, and after twice as long each further time, up to the maximum. */
const FIRST_RESTART_MS = 50;
const MOST_RESTART_MS = 5000;
/** A watchdog that has lived this long ends a series of failures: the delay begins anew. */
const STABLE_MS = 60_000;

/**
 * The worker's side of the watchdog. The watchdog is a small process in its own process group that holds a pipe to the
 * worker. When the worker is gone, for any reason, the pipe closes. Then the watchdog kills every process group that it
 * guards, and every process that carries the worker's session in its environment. It also ends the stitches that must not
 * outlive the lease, so that they end even if the worker hangs.
 */
export class Watchdog {
  readonly #session: string;
  readonly #onError: (error: unknown) => void;
  readonly #onRestart: () => void;
  /** By pid; null for groups that do not end with the lease. */
  readonly #guarded = new Map<number, GuardedStitch | null>();
  /** The groups that the watchdog has ended with the lease. */
  readonly #endedWithLease = new Set<number>();
  #leaseUntilMs: number | null = null;
  #child: ChildProcess | null = null;
  /** When the watchdog was started, by `performance.now()`. */
  #startedAtMs = 0;
  #restartMs = FIRST_RESTART_MS;
  #restart: NodeJS.Timeout | undefined;
  #ended = false;

  /** @param onRestart called when a new watchdog has replaced a dead one: `pid` is the new one's. */
  constructor(session: string, onError: (error: unknown) => void, onRestart: () => void) {
    this.#session = session;
    this.#onError = onError;
    this.#onRestart = onRestart;
  }

  get pid(): number | null {
    return this.#child?.pid ?? null;
  }

  /** Starts the watchdog. If it dies, or cannot be started, it is started again and gets all groups and the lease again. */
  start(): void {
    if (this.#ended || this.#child !== null) return;
    clearTimeout(this.#restart);
    this.#startedAtMs = performance.now();
    let child: ChildProcess;
    try {
      child = spawn(process.execPath, [MAIN, this.#session], {
        detached: true,
        stdio: ["pipe", "pipe", "ignore"],
        env: { PATH: process.env["PATH"] ?? "" },
      });
    } catch (error) {
      this.#startAgain("could not be started", error);
      return;
    }
    child.stdin?.on("error", this.#onError);
    if (child.pid === undefined) {
      child.once("error", (error) => this.#startAgain("could not be started", error));
      return;
    }
    this.#child = child;
    child.on("error", this.#onError);
    child.once("exit", (code, signal) => this.#startAgain(`ended (${signal ?? `code ${code}`})`));
    if (child.stdout !== null)
      createInterface({ input: child.stdout }).on("line", (line) => {
        if (this.#guarded.has(Number(line))) this.#endedWithLease.add(Number(line));
      });
    if (this.#leaseUntilMs !== null) this.#tell(`=${this.#leaseUntilMs}`);
    for (const [pid, guarded] of this.#guarded) this.#tellGuard(pid, guarded);
  }

  #startAgain(what: string, cause?: unknown): void {
    if (this.#ended) return;
    this.#child = null;
    if (performance.now() - this.#startedAtMs > STABLE_MS) this.#restartMs = FIRST_RESTART_MS;
    const inMs = this.#restartMs;
    this.#restartMs = Math.min(MOST_RESTART_MS, 2 * inMs);
    this.#onError(new Error(`the watchdog ${what}; starting it again in ${inMs} ms`, { cause }));
    this.#restart = setTimeout(() => {
      this.start();
      if (this.#child !== null) this.#onRestart();
    }, inMs);
  }

  /**
   * From now on the group of `pid` ends with the worker. If `guarded` is given, it also ends when the lease has run out:
   * SIGTERM, then SIGKILL after its grace (at most `STOP_WINDOW_MS`), then the processes that left the group.
   */
  guard(pid: number, guarded: GuardedStitch | null): void {
    const bounded = guarded && { ...guarded, graceMs: Math.min(STOP_WINDOW_MS, guarded.graceMs) };
    this.#guarded.set(pid, bounded);
    this.#endedWithLease.delete(pid);
    this.#tellGuard(pid, bounded);
  }

  #tellGuard(pid: number, guarded: GuardedStitch | null): void {
    this.#tell(guarded === null ? `+${pid}` : `+${pid} ${guarded.graceMs} ${guarded.stitch}`);
  }

  /**
   * The lease holds for `forMs` from now. Then the stitches that
   * must not outlive it are ended, unless the lease is renewed.
   */
  leaseHolds(forMs: number): void {
    this.#leaseUntilMs = Math.round(Number(process.hrtime.bigint() / 1_000_000n) + forMs);
    this.#tell(`=${this.#leaseUntilMs}`);
  }

  /** The group is gone, and its number may soon belong to another group. @returns whether it was ended with the lease. */
  release(pid: number): boolean {
    this.#guarded.delete(pid);
    this.#tell(`-${pid}`);
    return this.#endedWithLease.delete(pid);
  }

  /** Ends the watchdog. It kills the groups that are still guarded, as if the worker had died. Safe to repeat. */
  end(): void {
    if (this.#ended) return;
    this.#ended = true;
    clearTimeout(this.#restart);
    this.#child?.stdin?.end(this.#guarded.size === 0 ? "bye\n" : "");
    this.#child?.stdout?.destroy();
    this.#child?.unref();
  }

  #tell(line: string): void {
    this.#child?.stdin?.write(`${line}\n`);
  }
}
