/** When something was asked for, by both clocks. */
export type RequestTime = { readonly atMs: number; readonly steadyAtMs: number };

type LeaseOptions = {
  readonly leaseMs: number;
  /** The machine's clock: it may be set, and goes on while the machine sleeps. */
  readonly nowMs: () => number;
  /** A clock that nobody sets. */
  readonly steadyNowMs: () => number;
  /** Called when it has run out. */
  readonly onEnd: () => void;
};

/**
 * The lease of a node, as far as the node can tell without asking: counted from before the request that renewed it, so
 * never longer than Redis's own. It is over when either clock says so: a machine whose clock is set back must not hold it
 * longer, nor one that was asleep.
 */
export class Lease {
  readonly #options: LeaseOptions;
  #since: RequestTime = { atMs: Number.NEGATIVE_INFINITY, steadyAtMs: Number.NEGATIVE_INFINITY };
  #end: NodeJS.Timeout | undefined;

  constructor(options: LeaseOptions) {
    this.#options = options;
  }

  /** To be called right before it is asked for. */
  ask(): RequestTime {
    return { atMs: this.#options.nowMs(), steadyAtMs: this.#options.steadyNowMs() };
  }

  /** It was renewed by what was asked for then. @returns for how long it holds by the steady clock. */
  renewed(since: RequestTime): number {
    // Noticed too late that it was over: what must not outlive it ends all the same.
    if (this.#steadyLeftMs() <= 0) this.#options.onEnd();
    this.#since = since;
    clearTimeout(this.#end);
    this.#end = setTimeout(this.#options.onEnd, this.#steadyLeftMs()).unref();
    return this.#steadyLeftMs();
  }

  /** Not above 0 where it is over. */
  get leftMs(): number {
    return Math.min(this.#steadyLeftMs(), this.#since.atMs + this.#options.leaseMs - this.#options.nowMs());
  }

  get holds(): boolean {
    return this.leftMs > 0;
  }

  #steadyLeftMs(): number {
    return this.#since.steadyAtMs + this.#options.leaseMs - this.#options.steadyNowMs();
  }

  /** Its end is told no more. Safe to repeat. */
  close(): void {
    clearTimeout(this.#end);
  }
}
