/** What is ended with the lease: how long after SIGTERM comes SIGKILL, and which stitch it is. */
export type GuardedStitch = { readonly stitch: string; readonly graceMs: number };

type GuardedGroupsOptions = {
  /** Monotonic and the same in every process of the machine. */
  readonly nowMs: () => number;
  /** Sends a signal to a process group; one that is gone is nothing to complain about. */
  readonly signal: (pid: number, signal: NodeJS.Signals) => void;
  /** Told of each group before it is ended with the lease. */
  readonly onLeaseEnd: (pid: number) => void;
  /** Kills what has left the group of a stitch, as long as `isDue`. */
  readonly endEscaped: (stitch: string, isDue: () => boolean) => void;
};

/** The process groups that a watchdog guards, and how it ends those that must not outlive the lease. */
export class GuardedGroups {
  readonly #options: GuardedGroupsOptions;
  /** By process id of the leader; null where the group may outlive the lease. */
  readonly #groups = new Map<number, GuardedStitch | null>();
  /** Asked to end already: to many programs a second SIGTERM means at once. */
  readonly #ending = new WeakSet<GuardedStitch>();
  #leaseUntilMs = Number.POSITIVE_INFINITY;
  #timer: NodeJS.Timeout | undefined;

  constructor(options: GuardedGroupsOptions) {
    this.#options = options;
  }

  get pids(): number[] {
    return [...this.#groups.keys()];
  }

  guard(pid: number, guarded: GuardedStitch | null): void {
    // Its own object, so that it is told from the next group under this number.
    const group = guarded && { ...guarded };
    this.#groups.set(pid, group);
    // Started in the last moment of the lease, or told after it: its end is due now.
    if (group !== null && this.#isOver()) this.#end(pid, group);
  }

  /** The group is gone. */
  release(pid: number): void {
    this.#groups.delete(pid);
  }

  /** The lease holds until then. */
  renew(untilMs: number): void {
    clearTimeout(this.#timer);
    // Heard too late: the timer was due before, and that the lease holds again does not make up for it.
    if (this.#isOver()) this.#endAll();
    this.#leaseUntilMs = untilMs;
    this.#timer = setTimeout(() => this.#endAll(), Math.max(0, untilMs - this.#options.nowMs()));
  }

  #isOver(): boolean {
    return this.#options.nowMs() >= this.#leaseUntilMs;
  }

  #endAll(): void {
    for (const [pid, guarded] of this.#groups) if (guarded !== null) this.#end(pid, guarded);
  }

  #end(pid: number, guarded: GuardedStitch): void {
    if (this.#ending.has(guarded)) return;
    this.#ending.add(guarded);
    const { onLeaseEnd, signal, endEscaped } = this.#options;
    onLeaseEnd(pid);
    signal(pid, "SIGTERM");
    // Still guarded, so its worker has not seen it go; a number that has become another's is guarded no more, and what is
    // found of a stitch that was released may be of its next start.
    const isDue = () => this.#groups.get(pid) === guarded;
    setTimeout(() => {
      if (!isDue()) return;
      signal(pid, "SIGKILL");
      endEscaped(guarded.stitch, isDue);
    }, guarded.graceMs);
  }
}
