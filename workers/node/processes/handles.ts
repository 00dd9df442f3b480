import { readdirSync, readFileSync } from "node:fs";

/**
 * Reserved for the worker itself: new connections to Redis, the journal, logs that are being read, a search of the
 * machine's processes. An idle worker has 30 open.
 */
const RESERVE = 32;
/** The cost of a running program: its two outputs and its log. A start costs twice that; the rest comes out of the reserve. */
const PER_START = 3;

type HandlesOptions = {
  /** The number of running programs whose log is not open yet. Each log opens a file with its first line. */
  readonly logsToOpen: () => number;
  /** How many this process may have open; null if there is no limit. Default: as the system says. */
  readonly limit?: () => number | null;
  /** How many this process has open. Default: as the system says. */
  readonly count?: () => number;
};

/**
 * The files and connections that the worker may have open at once (`ulimit -n`). If they run out, the worker can neither
 * reach Redis again nor record what its stitches do. So starts are refused before that.
 */
export class Handles {
  readonly #readLimit: () => number | null;
  readonly #count: () => number;
  readonly #logsToOpen: () => number;
  /**
   * An upper bound: those open at the last count, plus those for starts
   * since then. A count at each start would cost more than the start.
   */
  #inUse = Number.POSITIVE_INFINITY;
  #limit: number | null;

  constructor({ logsToOpen, limit = limitOfSystem, count = countOfSystem }: HandlesOptions) {
    this.#readLimit = limit;
    this.#limit = limit();
    this.#count = count;
    this.#logsToOpen = logsToOpen;
  }

  /** Takes what a start needs. @returns why the start is refused; null if it may go on. */
  refusal(): string | null {
    if (!this.#hasRoom()) {
      // The limit may have been raised since, or programs may have ended.
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

  /** What the limit means for this node; null if there is no limit. */
  get text(): string | null {
    if (this.#limit === null) return null;
    const programs = Math.max(0, Math.floor((this.#limit - RESERVE - this.#count()) / PER_START));
    return (
      `the worker may have ${this.#limit} files and connections open (ulimit -n), which is enough for about ${programs} ` +
      "programs"
    );
  }
}

/** null if the system does not tell: only Linux does. */
function limitOfSystem(): number | null {
  try {
    const soft = /^Max open files\s+(\d+)/m.exec(readFileSync("/proc/self/limits", "latin1"))?.[1];
    return soft === undefined ? null : Number(soft);
  } catch {
    return null;
  }
}

/** With none left, even the list cannot be opened. */
function countOfSystem(): number {
  try {
    return readdirSync("/proc/self/fd").length;
  } catch {
    return Number.POSITIVE_INFINITY;
  }
}
