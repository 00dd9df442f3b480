/** A stitch that ends with the lease. `graceMs`: the time from SIGTERM to SIGKILL. */
export type GuardedStitch = { readonly stitch: string; readonly graceMs: number };

type GuardedGroupsOptions = {
  /** A monotonic clock, the same in every process of the machine. */
  readonly nowMs: () => number;
  /** Sends a signal to a process group. Does not fail if the group is gone. */
  readonly signal: (pid: number, signal: NodeJS.Signals) => void;
  /** Called for each group before it is ended with the lease. */
  readonly onLeaseEnd: (pid: number) => void;
  /** Kills the processes that left the group of a stitch, as long as `isDue`. */
  readonly endEscaped: (stitch: string, isDue: () => boolean) => void;
};

/** The process groups that a watchdog guards. Ends the groups that must not outlive the lease. */
export class GuardedGroups {
  readonly #options: GuardedGroupsOptions;
  /** By the pid of the leader; null if the group may outlive the lease. */
  readonly #groups = new Map<number, GuardedStitch | null>();
  /** Groups that got SIGTERM already: many programs end at once at a second SIGTERM. */
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
    // A separate object, so that it differs from that of the next group with this number.
    const group = guarded && { ...guarded };
    this.#groups.set(pid, group);
    // The group was started at the last moment of the lease, or reported after it: it must end now.
    if (group !== null && this.#isOver()) this.#end(pid, group);
  }

  /** The group is gone. */
  release(pid: number): void {
    this.#groups.delete(pid);
  }

  /** The lease holds until `untilMs`. */
  renew(untilMs: number): void {
    clearTimeout(this.#timer);
    // The renewal came too late: the timer was due before. The groups must end although the lease holds again.
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
    // Still guarded means that the worker has not seen the group end. After a release, the number may belong to another
    // group, and processes of the stitch may belong to its next start.
    const isDue = () => this.#groups.get(pid) === guarded;
    setTimeout(() => {
      if (!isDue()) return;
      signal(pid, "SIGKILL");
      endEscaped(guarded.stitch, isDue);
    }, guarded.graceMs);
  }
}
