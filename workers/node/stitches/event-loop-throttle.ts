/** A turn of the event loop that took longer than this had too much work. */
const TURN_MS = 5;
const MOST_A_TURN = 32;

/**
 * Begins waiting work in batches, one batch for each turn of the event loop: starting a process blocks the loop for some
 * milliseconds, and five hundred starts in one turn would outlast a lease. A batch has one piece of work at first, twice as
 * many after a short turn, half as many after a long one. So cheap work does not wait for a turn of its own.
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
    // Work that begins now continues in the next turn, after its record is
    // written (see `StitchDisk`). The measurement must include that turn.
    setImmediate(() => setImmediate(() => this.#end()));
  }

  #end(): void {
    const isShort = this.#nowMs() - this.#sinceMs <= TURN_MS;
    this.#atOnce = isShort ? Math.min(MOST_A_TURN, 2 * this.#atOnce) : Math.max(1, Math.floor(this.#atOnce / 2));
    this.#running = this.#waiting.length > 0;
    if (this.#running) this.#begin();
  }
}
