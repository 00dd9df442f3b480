/** A message that is stored within this time does not hold up its sender. */
const SOON_MS = 100;

/**
 * Measures how long a stitch had to wait until its messages were stored, because an inbox had no room or Redis was away.
 * The stitch is not to blame for what it does not do in that time. Several waits at once count once.
 */
export class HeldTime {
  readonly #nowMs: () => number;
  /** When each open wait began, the oldest first. */
  readonly #waits = new Set<{ readonly sinceMs: number }>();
  #totalMs = 0;
  /** The total includes everything up to this time. */
  #countedMs = Number.NEGATIVE_INFINITY;

  constructor(nowMs: () => number) {
    this.#nowMs = nowMs;
  }

  /** Does the stitch wait, and not only for a moment? */
  get isHeld(): boolean {
    const [first] = this.#waits;
    return first !== undefined && this.#nowMs() - first.sinceMs >= SOON_MS;
  }

  get totalMs(): number {
    const [first] = this.#waits;
    return this.#totalMs + (first === undefined ? 0 : this.#uncounted(first.sinceMs));
  }

  /** Counts a wait until it succeeds or fails. */
  async during<T>(sent: Promise<T>): Promise<T> {
    const wait = { sinceMs: this.#nowMs() };
    this.#waits.add(wait);
    try {
      return await sent;
    } finally {
      // This includes all open waits: a wait that began earlier and goes on is counted up to now, too.
      this.#totalMs = this.totalMs;
      this.#countedMs = this.#nowMs();
      this.#waits.delete(wait);
    }
  }

  #uncounted(sinceMs: number): number {
    return Math.max(0, this.#nowMs() - Math.max(sinceMs + SOON_MS, this.#countedMs));
  }
}
