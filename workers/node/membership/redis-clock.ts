type RedisClockOptions = {
  /** The machine's clock, used until Redis has sent its time. */
  readonly nowMs: () => number;
  /** A monotonic clock. */
  readonly steadyNowMs: () => number;
};

/**
 * Redis's time without asking Redis: what a node writes must not depend on its machine's clock. Between two answers with
 * Redis's time it follows a monotonic clock. Redis read the time of an answer at some moment between the request and now.
 * The clock moves only if it is outside of that range, and only to the edge of it. So an answer that is read late does not
 * set it back (F. Cristian, "Probabilistic clock synchronization", 1989).
 */
export class RedisClock {
  readonly #options: RedisClockOptions;
  #offsetMs: number | null = null;

  constructor(options: RedisClockOptions) {
    this.#options = options;
  }

  /** Takes Redis's time from an answer. @param askedAtMs when the request was sent, by the monotonic clock. */
  told(redisNowMs: number, askedAtMs: number): void {
    const least = redisNowMs - this.#options.steadyNowMs();
    const most = redisNowMs - askedAtMs;
    this.#offsetMs = Math.min(most, Math.max(least, this.#offsetMs ?? least));
  }

  /** Unix milliseconds, a whole number. */
  nowMs(): number {
    return this.#offsetMs === null ? this.#options.nowMs() : Math.round(this.#options.steadyNowMs() + this.#offsetMs);
  }
}
