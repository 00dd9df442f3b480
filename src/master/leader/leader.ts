import { decidesUntilMs, type Election, type LeaderLease, type Won } from "../../domain/election.ts";
import { hex } from "../../domain/json/digest.ts";

export type LeaderOptions = {
  /** This Master's id. */
  readonly id: string;
  readonly lease: LeaderLease;
  readonly leaseMs: number;
  /** A monotonic clock. */
  readonly steadyNowMs: () => number;
  /** From 0 up to 1. */
  readonly random: () => number;
  readonly randomBytes: (count: number) => Uint8Array;
  /** Called when this Master has been elected, and when it no longer leads. */
  readonly onElected: (won: Won & { readonly election: Election }) => void;
  readonly onLost: (election: Election) => void;
};

/**
 * This Master in the election of the leader: it tries to be elected, renews its lease, and knows by its own clock until when it may
 * decide. Believing that one leads is not enough to change anything: each act is compared with the current election where it takes
 * effect.
 */
export class Leader {
  readonly #options: LeaderOptions;
  #election: Election | null = null;
  #decidesUntilMs = Number.NEGATIVE_INFINITY;
  /** The next election must have a higher epoch: a job has one that the lease has lost. */
  #above = 0;
  #stopped = false;

  constructor(options: LeaderOptions) {
    this.#options = options;
  }

  /** The election under which this Master may decide now; null if it may not. */
  current(): Election | null {
    return this.#options.steadyNowMs() < this.#decidesUntilMs ? this.#election : null;
  }

  /**
   * Decides nothing until the lease was renewed. If it still can be, the store has lost an election that a job knows: then this Master
   * asks for an election above that epoch.
   */
  askAbove(epoch: number): void {
    if (epoch < (this.#election?.epoch ?? Number.POSITIVE_INFINITY)) return;
    this.#above = Math.max(this.#above, epoch);
    this.#decidesUntilMs = Number.NEGATIVE_INFINITY;
  }

  /**
   * Renews the lease, or tries to be elected. @returns in how many ms to call it again at the latest.
   * @throws if the lease's store does not answer: the right to decide then ends by itself. RequestError `wrong_mode`.
   */
  async takePart(): Promise<number> {
    const { id, lease, leaseMs, steadyNowMs, random, randomBytes } = this.#options;
    const third = leaseMs / 3;
    if (this.#stopped) return third;
    const sentMs = steadyNowMs();
    const held = this.#election;
    if (held !== null) {
      const isHeld = await lease.renew(held, leaseMs);
      if (isHeld && this.#above < held.epoch) {
        this.#decidesUntilMs = decidesUntilMs(sentMs, leaseMs);
        return third;
      }
      // Another one was elected since, or may be: its epoch is the higher one that was met, and it must not be deposed.
      if (!isHeld) this.#above = 0;
    }
    this.#lose();
    const won = await lease.win({ id: hex(randomBytes(16)), holder: id, leaseMs, above: this.#above });
    if (won.election === null) return Math.min(won.leftMs, third) + random() * third;
    if (this.#stopped) {
      await lease.giveBack(won.election);
      return third;
    }
    this.#election = won.election;
    this.#decidesUntilMs = decidesUntilMs(sentMs, leaseMs);
    this.#options.onElected(won);
    return third;
  }

  /** Gives the lease back, so that another Master can be elected at once. Safe to repeat, and to take part again afterwards. */
  async stepDown(): Promise<void> {
    const election = this.#election;
    this.#lose();
    if (election !== null) await this.#options.lease.giveBack(election);
  }

  /** As `stepDown`, for good. */
  async stop(): Promise<void> {
    this.#stopped = true;
    await this.stepDown();
  }

  #lose(): void {
    const election = this.#election;
    this.#election = null;
    this.#decidesUntilMs = Number.NEGATIVE_INFINITY;
    if (election !== null) this.#options.onLost(election);
  }
}
