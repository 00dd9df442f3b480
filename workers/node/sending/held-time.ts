/** What is stored sooner than this holds nobody up. */
const SOON_MS = 100;

/**
 * How long a stitch had to wait until what it sent was stored: while an inbox has no room, or Redis is away. It is not to be
 * blamed for what it does not do meanwhile. Several waits at once count once.
 */
export class HeldTime {
  readonly #nowMs: () => number;
  /** When each wait began that has not ended, the first one first. */
  readonly #waits = new Set<{ readonly sinceMs: number }>();
  #totalMs = 0;
  /** Up to here everything is in the total. */
  #countedMs = Number.NEGATIVE_INFINITY;

  constructor(nowMs: () => number) {
    this.#nowMs = nowMs;
  }

  /** Is it waiting, and not for a moment only? */
  get isHeld(): boolean {
    const [first] = this.#waits;
    return first !== undefined && this.#nowMs() - first.sinceMs >= SOON_MS;
  }

  get totalMs(): number {
    const [first] = this.#waits;
    return this.#totalMs + (first === undefined ? 0 : this.#uncounted(first.sinceMs));
  }

  /** Counts a wait, until it ends in one way or the other. */
  async during<T>(sent: Promise<T>): Promise<T> {
    const wait = { sinceMs: this.#nowMs() };
    this.#waits.add(wait);
    try {
      return await sent;
    } finally {
      // With all that waits: what began before this one and lasts on is counted up to here, too.
      this.#totalMs = this.totalMs;
      this.#countedMs = this.#nowMs();
      this.#waits.delete(wait);
    }
  }

  #uncounted(sinceMs: number): number {
    return Math.max(0, this.#nowMs() - Math.max(sinceMs + SOON_MS, this.#countedMs));
  }
}
