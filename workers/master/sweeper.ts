import { orLate, pause } from "../../src/bounded-wait.ts";
import { RequestError } from "../../src/domain/errors.ts";
import type { Upkeep } from "../../src/master/ports.ts";
import type { RedisClient } from "../../src/redis/connection/client.ts";

/** Time between sweeps. A job that is marked as due is advanced sooner; a sweep finds the jobs without a mark. */
const ROUND_MS = 1000;
/** How long one call waits for a due job: shorter than a connection may stay silent. */
const WAIT_MS = 5000;
/** How long due jobs are collected. Meanwhile a waiting caller closes most of them, so that they need no second look. */
const GATHER_MS = 200;
const MOST_GATHERED = 1000;

type SweeperOptions = {
  readonly upkeep: Upkeep;
  /** In the role `blocking`. Used by this sweeper only; `stop` disconnects it. */
  readonly blocking: RedisClient;
  readonly onError: (error: unknown) => void;
};

/**
 * Does the upkeep of a Master: its place on the list, a sweep each second, a watch over the nodes, and a look at jobs that are due.
 * Only one Master takes each due job.
 */
export class Sweeper {
  readonly #options: SweeperOptions;
  readonly #stopping = new AbortController();
  #working: Promise<unknown> = Promise.resolve();
  #stopped = false;

  constructor(options: SweeperOptions) {
    this.#options = options;
  }

  /** @param onRefused called once if the mode of the cluster was changed: then this Master sweeps no more. */
  start(onRefused: (error: RequestError) => void): void {
    const repeat = (work: () => Promise<void>) => this.#repeat(work, onRefused);
    this.#working = Promise.all([
      // By itself: a sweep that takes long must not take the Master off the list.
      repeat(() => this.#join()),
      repeat(() => this.#round()),
      repeat(() => this.#watch()),
      repeat(() => this.#advanceDue()),
    ]);
  }

  /** Repeats `work` until the end; after an error, with a pause. */
  async #repeat(work: () => Promise<void>, onRefused: (error: RequestError) => void): Promise<void> {
    while (!this.#stopped)
      await work().catch(async (error: unknown) => {
        if (this.#stopped) return;
        if (error instanceof RequestError && error.code === "wrong_mode") {
          // Another of the four may find it, too.
          this.#stopped = true;
          onRefused(error);
          return;
        }
        this.#options.onError(error);
        await pause(ROUND_MS, this.#stopping.signal);
      });
  }

  async #join(): Promise<void> {
    await pause(await this.#options.upkeep.join(), this.#stopping.signal);
  }

  async #watch(): Promise<void> {
    await pause(await this.#options.upkeep.watchNodes(), this.#stopping.signal);
  }

  async #round(): Promise<void> {
    await this.#options.upkeep.sweep();
    await pause(ROUND_MS, this.#stopping.signal);
  }

  async #advanceDue(): Promise<void> {
    const { upkeep, blocking } = this.#options;
    const first = await upkeep.nextDue(blocking, WAIT_MS);
    if (first === null) return;
    await pause(GATHER_MS, this.#stopping.signal);
    await upkeep.advance([first, ...(await upkeep.takeDue(MOST_GATHERED))]);
  }

  /** Ends after the current work, at most `graceMs` later. May be called twice and at once. */
  async stop(graceMs: number): Promise<void> {
    this.#stopped = true;
    this.#stopping.abort();
    this.#options.blocking.disconnect();
    await orLate(this.#working, graceMs);
  }
}
