import type { Master } from "../../src/master/master.ts";
import type { JobHints } from "../../src/redis/job-hints.ts";

/** Time between rounds. A hint settles a job sooner; this finds what no hint told of. */
const ROUND_MS = 1000;
/** Hints are gathered this long: most jobs are ended meanwhile by whoever waits for them, and need no second look. */
const GATHER_MS = 200;

/** Keeps a Master tending: a round each second, and a look at each job a hint speaks of. */
export class Tender {
  readonly #master: Master;
  readonly #hints: JobHints;
  readonly #onError: (error: unknown) => void;
  #timer: NodeJS.Timeout | undefined;
  #running: Promise<void> = Promise.resolve();
  #stopped = false;
  #hinted = new Set<string>();
  #gathering: NodeJS.Timeout | undefined;

  constructor(master: Master, hints: JobHints, onError: (error: unknown) => void) {
    this.#master = master;
    this.#hints = hints;
    this.#onError = onError;
  }

  start(): void {
    this.#hints.watchAll((job) => this.#look(job));
    this.#round();
  }

  #round(): void {
    this.#running = this.#master
      .tend()
      .then(() => undefined, this.#onError)
      .finally(() => {
        if (!this.#stopped) this.#timer = setTimeout(() => this.#round(), ROUND_MS);
      });
  }

  #look(job: string): void {
    if (this.#stopped) return;
    this.#hinted.add(job);
    this.#gathering ??= setTimeout(() => {
      const jobs = [...this.#hinted];
      this.#hinted = new Set();
      this.#gathering = undefined;
      this.#master.settle(jobs).catch(this.#onError);
    }, GATHER_MS);
  }

  /** Ends after the round under way, at most `graceMs` later. May be called twice and at once. */
  async stop(graceMs: number): Promise<void> {
    this.#stopped = true;
    clearTimeout(this.#timer);
    clearTimeout(this.#gathering);
    let timer: NodeJS.Timeout | undefined;
    await Promise.race([
      this.#running,
      new Promise((resolve) => {
        timer = setTimeout(resolve, graceMs);
      }),
    ]);
    clearTimeout(timer);
  }
}
