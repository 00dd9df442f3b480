import { pause } from "../../bounded-wait.ts";
import { takeDueJobs, waitForDueJob } from "../../redis/job/due-jobs.ts";
import type { RedisClient } from "../../redis/connection/client.ts";
import { writeFormat } from "../../redis/format.ts";
import { openJobsOf } from "../../redis/job/job-index.ts";
import type { Keys } from "../../redis/keys.ts";
import type { Housekeeping } from "./housekeeping.ts";
import type { JobService } from "./job-service.ts";
import type { MasterPresence } from "./master-presence.ts";
import type { Swept, Upkeep } from "../ports.ts";

/** Sweeps between two looks for chores: half a minute. */
const CHORES_EVERY = 30;
/** How long a Master that does not decide waits before it looks for due jobs again. */
const NO_TURN_MS = 1000;

export type SharedUpkeepOptions = {
  readonly redis: RedisClient;
  readonly keys: Keys;
  readonly presence: MasterPresence;
  readonly jobService: JobService;
  readonly housekeeping: Housekeeping;
  /** Called with the errors of chores that failed. */
  readonly onLate: (error: unknown) => void;
};

/** Upkeep that the deciding Masters share. Each time a job or a chore is due, only one Master takes it. */
export class SharedUpkeep implements Upkeep {
  readonly #options: SharedUpkeepOptions;
  #rounds = 0;

  constructor(options: SharedUpkeepOptions) {
    this.#options = options;
  }

  async join(): Promise<void> {
    await this.#options.presence.see();
  }

  async leave(): Promise<void> {
    await this.#options.presence.leave();
  }

  async sweep(): Promise<Swept> {
    const { redis, keys, presence, jobService, housekeeping, onLate } = this.#options;
    // A Redis that came back empty has no format key.
    await Promise.all([writeFormat(redis, keys), presence.see()]);
    if (!presence.mayDecide()) return { looked: 0, dispatched: 0, closed: 0 };
    this.#rounds += 1;
    // Not awaited: a chore may take long, and jobs must not wait for it.
    if (this.#rounds % CHORES_EVERY === 1) housekeeping.work().catch(onLate);
    return jobService.sweep();
  }

  async nextDue(blocking: RedisClient, waitMs: number): Promise<string | null> {
    if (this.#options.presence.mayDecide()) return waitForDueJob(blocking, this.#options.keys, waitMs);
    await pause(Math.min(waitMs, NO_TURN_MS));
    return null;
  }

  takeDue(most: number): Promise<readonly string[]> {
    return takeDueJobs(this.#options.redis, this.#options.keys, most);
  }

  async advance(ids: readonly string[]): Promise<void> {
    const { redis, keys, jobService } = this.#options;
    const open = await openJobsOf(redis, keys, ids);
    await Promise.all(open.map((id) => jobService.advance(id)));
  }
}
