import { type ChildProcess, spawn } from "node:child_process";
import { fileURLToPath } from "node:url";

const MAIN = fileURLToPath(
  new URL(import.meta.url.endsWith(".ts") ? "./watchdog-main.ts" : "./watchdog-main.js", import.meta.url),
);

/**
 * The worker's side of the watchdog: a small process in a group of its own that holds a pipe to the worker. When the worker
 * is gone, however it went, the pipe closes and the watchdog kills every process group it was told of, and every process
 * that carries the worker's session in its environment.
 */
export class Watchdog {
  readonly #session: string;
  readonly #onError: (error: unknown) => void;
  readonly #guarded = new Set<number>();
  #child: ChildProcess | null = null;
  #ended = false;

  constructor(session: string, onError: (error: unknown) => void) {
    this.#session = session;
    this.#onError = onError;
  }

  get pid(): number | null {
    return this.#child?.pid ?? null;
  }

  /** Starts it; one that dies is started again and told everything anew. */
  start(): void {
    if (this.#ended) return;
    const child = spawn(process.execPath, [MAIN, this.#session], {
      detached: true,
      stdio: ["pipe", "ignore", "ignore"],
      env: { PATH: process.env["PATH"] ?? "" },
    });
    this.#child = child;
    child.on("error", this.#onError);
    child.stdin?.on("error", this.#onError);
    child.once("exit", () => {
      if (this.#ended) return;
      this.#onError(new Error("the watchdog ended; starting it again"));
      this.start();
    });
    for (const pid of this.#guarded) this.#tell(`+${pid}`);
  }

  /** From now on the group of `pid` ends with the worker. */
  guard(pid: number): void {
    this.#guarded.add(pid);
    this.#tell(`+${pid}`);
  }

  /** The group is gone: its number may be another's soon. */
  release(pid: number): void {
    this.#guarded.delete(pid);
    this.#tell(`-${pid}`);
  }

  /** Lets it go without killing anything: every stitch has been stopped. Safe to repeat. */
  end(): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#child?.stdin?.end("bye\n");
    this.#child?.unref();
  }

  #tell(line: string): void {
    this.#child?.stdin?.write(`${line}\n`);
  }
}
