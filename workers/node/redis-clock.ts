export type RedisClockOptions = {
  /** The machine's clock, which stands in until Redis has told its time. */
  readonly nowMs: () => number;
  /** A clock that nobody sets. */
  readonly steadyNowMs: () => number;
};

/**
 * Redis's time without asking it: what a node writes down must not depend on how its machine's clock is set. Put right with
 * every answer that tells Redis's time, between them it follows a steady clock; off by the way of an answer at most.
 */
export class RedisClock {
  readonly #o: RedisClockOptions;
  #offsetMs: number | null = null;

  constructor(options: RedisClockOptions) {
    this.#o = options;
  }

  /** Redis has just told its time. */
  told(redisNowMs: number): void {
    this.#offsetMs = redisNowMs - this.#o.steadyNowMs();
  }

  /** Unix milliseconds, a whole number. */
  nowMs(): number {
    return this.#offsetMs === null ? this.#o.nowMs() : Math.round(this.#o.steadyNowMs() + this.#offsetMs);
  }
}
