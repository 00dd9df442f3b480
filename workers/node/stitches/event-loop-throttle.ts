/** A turn of the event loop that took longer than this had too much in it. */
const TURN_MS = 5;
const MOST_A_TURN = 32;

/**
 * Lets pieces of work begin a few in each turn of the event loop: to start a process blocks it for some milliseconds, and
 * five hundred in one turn would outlast a lease. One at first, twice as many after each turn that was short, half as many
 * after one that was not: what costs next to nothing need not wait for a turn of its own.
 */
export class EventLoopThrottle {
  readonly #nowMs: () => number;
  readonly #waiting: (() => void)[] = [];
  #running = false;
  #atOnce = 1;
  #sinceMs = 0;

  constructor(nowMs: () => number) {
    this.#nowMs = nowMs;
  }

  /** Resolves when it is the caller's turn; first come, first served. */
  next(): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#waiting.push(resolve);
    if (!this.#running) {
      this.#running = true;
      this.#atOnce = 1;
      setImmediate(() => this.#begin());
    }
    return promise;
  }

  #begin(): void {
    this.#sinceMs = this.#nowMs();
    for (const resolve of this.#waiting.splice(0, this.#atOnce)) resolve();
    // What begins now goes on in the next turn, when its record has been written (see `StitchDisk`): that is the one that counts.
    setImmediate(() => setImmediate(() => this.#end()));
  }

  #end(): void {
    const isShort = this.#nowMs() - this.#sinceMs <= TURN_MS;
    this.#atOnce = isShort ? Math.min(MOST_A_TURN, 2 * this.#atOnce) : Math.max(1, Math.floor(this.#atOnce / 2));
    this.#running = this.#waiting.length > 0;
    if (this.#running) this.#begin();
  }
}
