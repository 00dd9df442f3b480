type HeartbeatsOptions = {
  readonly heartbeatMs: number;
  readonly random: () => number;
  readonly beat: () => Promise<void>;
  readonly onError: (error: unknown) => void;
};

/** When a node beats: one beat after the other, from `begin` to `end`. */
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

  /** Brings the next beat forward, to some time within this. Nothing where none is scheduled, or one is under way. */
  bringForward(withinMs: number): void {
    if (this.#timer === undefined) return;
    clearTimeout(this.#timer);
    this.#schedule(this.#options.random() * Math.min(withinMs, this.#options.heartbeatMs));
  }

  /**
   * Resolves after the next beat, however that went.
   * @throws where there will be none.
   */
  async next(): Promise<void> {
    if (!this.#hasEnded) await this.#next.promise;
    if (this.#hasEnded) throw new Error("the worker has ended: its tasks are delivered to the next one");
  }

  /** No beat begins any more. Safe to repeat. @returns a promise for the end of the one under way; it never rejects. */
  end(): Promise<void> {
    this.#hasEnded = true;
    clearTimeout(this.#timer);
    return this.#beating;
  }

  /** Ends, and tells those who wait for the next beat that there is none. Safe to repeat. */
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
