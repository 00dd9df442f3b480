import { type ChildProcess, spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import type { Mortal } from "./guarded-groups.ts";

const MAIN = fileURLToPath(
  new URL(import.meta.url.endsWith(".ts") ? "./watchdog-main.ts" : "./watchdog-main.js", import.meta.url),
);

/** Longest that a stitch which must not outlive the lease goes on after it: a replacement elsewhere waits for as long. */
export const STOP_WINDOW_MS = 5000;

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
  readonly #guarded = new Map<number, Mortal | null>();
  /** Those of them that it has ended with the lease. */
  readonly #endedWithLease = new Set<number>();
  #leaseUntilMs: number | null = null;
  #child: ChildProcess | null = null;
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

  /** Starts it; one that dies is started again and told everything anew. */
  start(): void {
    if (this.#ended) return;
    const child = spawn(process.execPath, [MAIN, this.#session], {
      detached: true,
      stdio: ["pipe", "pipe", "ignore"],
      env: { PATH: process.env["PATH"] ?? "" },
    });
    this.#child = child;
    child.on("error", this.#onError);
    child.stdin?.on("error", this.#onError);
    child.once("exit", () => {
      if (this.#ended) return;
      this.#onError(new Error("the watchdog ended; starting it again"));
      this.start();
      this.#onRestart();
    });
    createInterface({ input: child.stdout }).on("line", (line) => {
      if (this.#guarded.has(Number(line))) this.#endedWithLease.add(Number(line));
    });
    if (this.#leaseUntilMs !== null) this.#tell(`=${this.#leaseUntilMs}`);
    for (const [pid, mortal] of this.#guarded) this.#tellGuard(pid, mortal);
  }

  /**
   * From now on the group of `pid` ends with the worker; if it is mortal also when the lease has run out: SIGTERM, SIGKILL
   * its grace later, at most `STOP_WINDOW_MS`, and then what has left the group.
   */
  guard(pid: number, mortal: Mortal | null): void {
    const bounded = mortal && { ...mortal, graceMs: Math.min(STOP_WINDOW_MS, mortal.graceMs) };
    this.#guarded.set(pid, bounded);
    this.#endedWithLease.delete(pid);
    this.#tellGuard(pid, bounded);
  }

  #tellGuard(pid: number, mortal: Mortal | null): void {
    this.#tell(mortal === null ? `+${pid}` : `+${pid} ${mortal.graceMs} ${mortal.stitch}`);
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

  /** Lets it go without killing anything: every stitch has been stopped. Safe to repeat. */
  end(): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#child?.stdin?.end("bye\n");
    this.#child?.stdout?.destroy();
    this.#child?.unref();
  }

  #tell(line: string): void {
    this.#child?.stdin?.write(`${line}\n`);
  }
}
