import { readdirSync, readFileSync } from "node:fs";

/**
 * Kept for the worker itself: connections to Redis that are made anew, the journal, logs that are being read, a look at the
 * processes of the machine. A worker at rest has 30 open.
 */
const RESERVE = 32;
/** What a running program costs: its two outputs and its log. While it is being started, twice that: out of the reserve. */
const PER_START = 3;

type HandlesOptions = {
  /** Logs of programs that run, which nothing has been written to so far: each takes one when there is something. */
  readonly logsToOpen: () => number;
  /** How many this process may have open; null where there is no bound. Default: as the system tells. */
  readonly limit?: () => number | null;
  /** How many it has open. Default: as the system tells. */
  readonly count?: () => number;
};

/**
 * The files and connections that the worker may have open at once (`ulimit -n`). Where they run out, it can neither reach
 * Redis again nor write down what its stitches do: so starts are refused before.
 */
export class Handles {
  readonly #readLimit: () => number | null;
  readonly #count: () => number;
  readonly #logsToOpen: () => number;
  /** At most so many are open, and taken up by starts since they were counted: to count them all at each start would cost more than the start. */
  #inUse = Number.POSITIVE_INFINITY;
  #limit: number | null;

  constructor({ logsToOpen, limit = limitOfSystem, count = countOfSystem }: HandlesOptions) {
    this.#readLimit = limit;
    this.#limit = limit();
    this.#count = count;
    this.#logsToOpen = logsToOpen;
  }

  /** Takes what a start needs. @returns why it must not be; null where it may. */
  refusal(): string | null {
    if (!this.#hasRoom()) {
      // It may have been raised since, or programs have ended.
      this.#limit = this.#readLimit();
      this.#inUse = this.#count() + this.#logsToOpen();
    }
    if (!this.#hasRoom())
      return (
        `this node has ${Math.min(this.#inUse, this.#limit ?? 0)} of its ${this.#limit} files and connections in use ` +
        `(ulimit -n), and keeps ${RESERVE} for itself; raise ulimit -n for its worker, or run fewer stitches there`
      );
    this.#inUse += PER_START;
    return null;
  }

  #hasRoom(): boolean {
    return this.#limit === null || this.#inUse + PER_START + RESERVE <= this.#limit;
  }

  /** What the limit means for this node; null where there is none. */
  get text(): string | null {
    if (this.#limit === null) return null;
    const programs = Math.max(0, Math.floor((this.#limit - RESERVE - this.#count()) / PER_START));
    return (
      `the worker may have ${this.#limit} files and connections open (ulimit -n), which is enough for about ${programs} ` +
      "programs"
    );
  }
}

/** null where the system tells none: only Linux does. */
function limitOfSystem(): number | null {
  try {
    const soft = /^Max open files\s+(\d+)/m.exec(readFileSync("/proc/self/limits", "latin1"))?.[1];
    return soft === undefined ? null : Number(soft);
  } catch {
    return null;
  }
}

/** With none left, the list cannot be opened either. */
function countOfSystem(): number {
  try {
    return readdirSync("/proc/self/fd").length;
  } catch {
    return Number.POSITIVE_INFINITY;
  }
}
