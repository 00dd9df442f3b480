import { readdirSync, readFileSync } from "node:fs";

/**
 * Kept for the worker itself: connections to Redis that are made anew, the journal, logs that are being read, a look at the
 * processes of the machine. A worker at rest has 30 open.
 */
const RESERVE = 32;
/** What a running program costs: its two outputs and its log. While it is being started, twice that: out of the reserve. */
const PER_START = 3;

export type HandlesOptions = {
  /** Logs of programs that run, which nothing has been written to so far: each takes one when there is something. */
  readonly logsToCome: () => number;
  /** How many this process may have open; null where there is no bound. Default: as the system tells. */
  readonly limit?: number | null;
  /** How many it has open. Default: as the system tells. */
  readonly count?: () => number;
};

/**
 * The files and connections that the worker may have open at once (`ulimit -n`). Where they run out, it can neither reach
 * Redis again nor write down what its stitches do: so starts are refused before.
 */
export class Handles {
  readonly limit: number | null;
  readonly #count: () => number;
  readonly #logsToCome: () => number;
  /** At most so many are open, or taken up by starts so far: to count them all at each start would cost more than the start. */
  #atMost = Number.POSITIVE_INFINITY;

  constructor({ logsToCome, limit = limitOfSystem(), count = countOfSystem }: HandlesOptions) {
    this.limit = limit;
    this.#count = count;
    this.#logsToCome = logsToCome;
  }

  /** Takes what a start needs. @returns why it must not be; null where it may. */
  refusal(): string | null {
    if (this.limit === null) return null;
    const most = this.limit - RESERVE - PER_START;
    if (this.#atMost > most) this.#atMost = this.#count() + this.#logsToCome();
    if (this.#atMost > most)
      return (
        `this node has ${Math.min(this.#atMost, this.limit)} of its ${this.limit} files and connections in use (ulimit -n), and keeps the last ` +
        `${RESERVE} for itself; raise ulimit -n for its worker, or run fewer stitches there`
      );
    this.#atMost += PER_START;
    return null;
  }

  /** What the limit means for this node. */
  toString(): string {
    if (this.limit === null) return "this system tells no limit for open files and connections";
    const stitches = Math.max(0, Math.floor((this.limit - RESERVE - this.#count()) / PER_START));
    return `the worker may have ${this.limit} files and connections open (ulimit -n): enough for ${stitches} programs`;
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
