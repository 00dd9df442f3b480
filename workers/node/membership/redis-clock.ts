type RedisClockOptions = {
  /** The machine's clock, which stands in until Redis has told its time. */
  readonly nowMs: () => number;
  /** A clock that nobody sets. */
  readonly steadyNowMs: () => number;
};

/**
 * Redis's time without asking it: what a node writes down must not depend on how its machine's clock is set. Between two
 * answers that tell Redis's time it follows a steady clock. An answer says that it was told between the question and now: the
 * clock is moved only as far as it is outside of that, so an answer that is read late sets it back by nothing (F. Cristian,
 * "Probabilistic clock synchronization", 1989).
 */
export class RedisClock {
  readonly #options: RedisClockOptions;
  #offsetMs: number | null = null;

  constructor(options: RedisClockOptions) {
    this.#options = options;
  }

  /** Redis has told its time, in answer to what was asked then, by the steady clock. */
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
