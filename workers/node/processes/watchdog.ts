import { type ChildProcess, spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import type { GuardedStitch } from "./guarded-groups.ts";

const MAIN = fileURLToPath(
  new URL(import.meta.url.endsWith(".ts") ? "./watchdog-main.ts" : "./watchdog-main.js", import.meta.url),
);

/** Longest that a stitch which must not outlive the lease goes on after it: a replacement elsewhere waits for as long. */
export const STOP_WINDOW_MS = 5000;

/** One that died is started again so soon, and each further time after twice as long, up to the most. */
const FIRST_RESTART_MS = 50;
const MOST_RESTART_MS = 5000;
/** One that has lived for so long is no part of a series of failures. */
const STABLE_MS = 60_000;

/**
 * The worker's side of the watchdog: a small process in a group of its own that holds a pipe to the worker. When the worker
 * is gone, however it went, the pipe closes and the watchdog kills every process group it was told of, and every process
 * that carries the worker's session in its environment. It also ends what must not outlive the lease, so that this happens
 * when the worker hangs, too.
 */
export class Watchdog {
  readonly #session: string;
  readonly #onError: (error: unknown) => void;
  readonly #onRestart: () => void;
  /** null for the groups that do not end with the lease. */
  readonly #guarded = new Map<number, GuardedStitch | null>();
  /** Those of them that it has ended with the lease. */
  readonly #endedWithLease = new Set<number>();
  #leaseUntilMs: number | null = null;
  #child: ChildProcess | null = null;
  /** Since when it lives, by `performance.now()`. */
  #startedAtMs = 0;
  #restartMs = FIRST_RESTART_MS;
  #restart: NodeJS.Timeout | undefined;
  #ended = false;

  /** @param onRestart called when another has taken the place of one that died: `pid` is its pid. */
  constructor(session: string, onError: (error: unknown) => void, onRestart: () => void) {
    this.#session = session;
    this.#onError = onError;
    this.#onRestart = onRestart;
  }

  get pid(): number | null {
    return this.#child?.pid ?? null;
  }

  /** Starts it; one that dies, or cannot be started, is started again and told everything anew. */
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
   * From now on the group of `pid` ends with the worker; where `guarded` is given, also when the lease has run out: SIGTERM,
   * SIGKILL its grace later, at most `STOP_WINDOW_MS`, and then what has left the group.
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

  /** The lease holds for so long from now. What must not outlive it is ended then, unless it is renewed. */
  leaseHolds(forMs: number): void {
    this.#leaseUntilMs = Math.round(Number(process.hrtime.bigint() / 1_000_000n) + forMs);
    this.#tell(`=${this.#leaseUntilMs}`);
  }

  /** The group is gone: its number may be another's soon. @returns whether it was ended with the lease. */
  release(pid: number): boolean {
    this.#guarded.delete(pid);
    this.#tell(`-${pid}`);
    return this.#endedWithLease.delete(pid);
  }

  /** Lets it go. What is still guarded by then it kills, as if the worker had died. Safe to repeat. */
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
