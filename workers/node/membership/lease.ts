/** The time of a request, by both clocks. */
export type RequestTime = { readonly atMs: number; readonly steadyAtMs: number };

type LeaseOptions = {
  readonly leaseMs: number;
  /** The machine's clock: it may be set, and it runs while the machine sleeps. */
  readonly nowMs: () => number;
  /** A monotonic clock. */
  readonly steadyNowMs: () => number;
  /** Called when the lease has run out. */
  readonly onEnd: () => void;
};

/**
 * The lease of a node, as far as the node knows without asking Redis. It is counted from before the request that renewed
 * it, so it is never longer than Redis's own. It is over when either clock says so: neither a clock that was set back nor a
 * machine that slept may make it longer.
 */
export class Lease {
  readonly #options: LeaseOptions;
  #since: RequestTime = { atMs: Number.NEGATIVE_INFINITY, steadyAtMs: Number.NEGATIVE_INFINITY };
  #end: NodeJS.Timeout | undefined;

  constructor(options: LeaseOptions) {
    this.#options = options;
  }

  /** Call this right before the request for the lease. */
  ask(): RequestTime {
    return { atMs: this.#options.nowMs(), steadyAtMs: this.#options.steadyNowMs() };
  }

  /** The request of that time renewed the lease. @returns how long the lease holds by the monotonic clock. */
  renewed(since: RequestTime): number {
    // The lease ran out unnoticed before this renewal: what must not outlive it still has to end.
    if (this.#steadyLeftMs() <= 0) this.#options.onEnd();
    this.#since = since;
    clearTimeout(this.#end);
    this.#end = setTimeout(this.#options.onEnd, this.#steadyLeftMs()).unref();
    return this.#steadyLeftMs();
  }

  /** 0 or less if the lease is over. */
  get leftMs(): number {
    return Math.min(this.#steadyLeftMs(), this.#since.atMs + this.#options.leaseMs - this.#options.nowMs());
  }

  get holds(): boolean {
    return this.leftMs > 0;
  }

  #steadyLeftMs(): number {
    return this.#since.steadyAtMs + this.#options.leaseMs - this.#options.steadyNowMs();
  }

  /** `onEnd` is not called any more. Safe to repeat. */
  close(): void {
    clearTimeout(this.#end);
  }
}
