import type { Upkeep } from "../../src/master/ports.ts";
import type { RedisClient } from "../../src/redis/client.ts";

/** Time between rounds. A job that is marked as due is advanced sooner; this finds what no mark told of. */
const ROUND_MS = 1000;
/** How long one call waits for a due job: shorter than a connection may stay silent. */
const WAIT_MS = 5000;
/** Due jobs are gathered this long: most jobs are ended meanwhile by whoever waits for them, and need no second look. */
const GATHER_MS = 200;
const MOST_GATHERED = 1000;

export type TenderOptions = {
  readonly upkeep: Upkeep;
  /** In the role `blocking`, of this alone, which ends with it. */
  readonly blocking: RedisClient;
  readonly onError: (error: unknown) => void;
};

/** Keeps up what a Master does unasked: a round each second, and a look at jobs that are due, each of which one Master of all takes. */
export class Tender {
  readonly #o: TenderOptions;
  readonly #stopping = Promise.withResolvers<void>();
  #working: Promise<unknown> = Promise.resolve();
  #stopped = false;

  constructor(options: TenderOptions) {
    this.#o = options;
  }

  start(): void {
    this.#working = Promise.all([this.#repeat(() => this.#round()), this.#repeat(() => this.#advanceDue())]);
  }

  /** Again and again until the end; where that fails, not at once. */
  async #repeat(work: () => Promise<void>): Promise<void> {
    while (!this.#stopped)
      await work().catch(async (error: unknown) => {
        if (this.#stopped) return;
        this.#o.onError(error);
        await this.#pause(ROUND_MS);
      });
  }

  async #round(): Promise<void> {
    await this.#o.upkeep.tend();
    await this.#pause(ROUND_MS);
  }

  async #advanceDue(): Promise<void> {
    const { upkeep, blocking } = this.#o;
    const first = await upkeep.nextDue(blocking, WAIT_MS);
    if (first === null) return;
    await this.#pause(GATHER_MS);
    await upkeep.advance([first, ...(await upkeep.takeDue(MOST_GATHERED))]);
  }

  /** Ends at once where it is stopped. */
  async #pause(ms: number): Promise<void> {
    let timer: NodeJS.Timeout | undefined;
    const over = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, ms);
    });
    await Promise.race([over, this.#stopping.promise]);
    clearTimeout(timer);
  }

  /** Ends after what is under way, at most `graceMs` later. May be called twice and at once. */
  async stop(graceMs: number): Promise<void> {
    this.#stopped = true;
    this.#stopping.resolve();
    this.#o.blocking.disconnect();
    let timer: NodeJS.Timeout | undefined;
    await Promise.race([
      this.#working,
      new Promise((resolve) => {
        timer = setTimeout(resolve, graceMs);
      }),
    ]);
    clearTimeout(timer);
  }
}
