type HeartbeatsOptions = {
  readonly heartbeatMs: number;
  readonly random: () => number;
  readonly beat: () => Promise<void>;
  readonly onError: (error: unknown) => void;
};

/** The schedule of a node's heartbeats: one beat after the other, from `begin` to `end`. */
export class Heartbeats {
  readonly #options: HeartbeatsOptions;
  #timer: NodeJS.Timeout | undefined;
  #beating: Promise<void> = Promise.resolve();
  #next = Promise.withResolvers<void>();
  #hasEnded = false;

  constructor(options: HeartbeatsOptions) {
    this.#options = options;
  }

  begin(): void {
    // A tenth of jitter: nodes that were started together must not beat together.
    this.#schedule(this.#options.heartbeatMs * (0.9 + 0.2 * this.#options.random()));
  }

  /**
   * Moves the next beat forward, to a random time within `withinMs`.
   * Does nothing if no beat is scheduled or one is in progress.
   */
  bringForward(withinMs: number): void {
    if (this.#timer === undefined) return;
    clearTimeout(this.#timer);
    this.#schedule(this.#options.random() * Math.min(withinMs, this.#options.heartbeatMs));
  }

  /**
   * Resolves after the next beat, whether it succeeded or failed.
   * @throws if there will be none.
   */
  async next(): Promise<void> {
    if (!this.#hasEnded) await this.#next.promise;
    if (this.#hasEnded) throw new Error("the worker has ended: its tasks are delivered to the next one");
  }

  /** Starts no more beats. Safe to repeat. @returns a promise for the end of the current beat; it never rejects. */
  end(): Promise<void> {
    this.#hasEnded = true;
    clearTimeout(this.#timer);
    return this.#beating;
  }

  /** Ends the beats, and lets every waiting call of `next` fail. Safe to repeat. */
  close(): void {
    void this.end();
    this.#next.resolve();
  }

  #schedule(inMs: number): void {
    if (this.#hasEnded) return;
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      this.#beating = this.#options
        .beat()
        .catch(this.#options.onError)
        .finally(() => {
          this.#next.resolve();
          this.#next = Promise.withResolvers();
          this.begin();
        });
    }, inMs);
  }
}
