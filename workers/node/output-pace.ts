/** Part of the worker's time that reading the output of stitches that flood may take, all of them together. */
const SHARE = 0.1;
/** Pauses shorter than this are saved up: a stitch that prints little is never held up. */
const LEAST_PAUSE_MS = 5;
/** Longest single pause, so that a flood that ends is read to its end soon. */
const MOST_PAUSE_MS = 1000;

/**
 * Shares out the time that a worker spends on reading what its stitches print. Each reader pays for the time it took by a
 * pause in proportion, the longer the more others are pausing too. A program that floods then waits at its full pipe, while
 * the worker's heartbeat and the neighbours' output go on. By time spent, not by lines or bytes: it is time that is short.
 */
export class OutputPace {
  readonly #nowMs: () => number;
  #pausing = 0;

  /** @param nowMs a clock that never goes back, with fractions of a millisecond. */
  constructor(nowMs: () => number) {
    this.#nowMs = nowMs;
  }

  /** One for each stream that is read. */
  reader(): { spent(ms: number): Promise<void> | null } {
    let freeAtMs = 0;
    return {
      /** @returns a pause to wait for before reading on, or null. */
      spent: (ms) => {
        const nowMs = this.#nowMs();
        freeAtMs = Math.max(nowMs, freeAtMs) + (ms / SHARE) * Math.max(1, this.#pausing);
        const pauseMs = Math.min(MOST_PAUSE_MS, freeAtMs - nowMs);
        if (pauseMs < LEAST_PAUSE_MS) return null;
        freeAtMs = nowMs + pauseMs;
        this.#pausing += 1;
        return new Promise((resolve) => {
          setTimeout(() => {
            this.#pausing -= 1;
            resolve();
          }, pauseMs).unref();
        });
      },
    };
  }
}
