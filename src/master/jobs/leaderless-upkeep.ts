import type { RedisClient } from "../../redis/connection/client.ts";
import { takeDueJobs, waitForDueJob } from "../../redis/job/due-jobs.ts";
import { writeFormat } from "../../redis/format.ts";
import { openJobsOf } from "../../redis/job/job-index.ts";
import type { Keys } from "../../redis/keys.ts";
import { redisTimeMs } from "../../redis/node/node-record.ts";
import { writeIndex } from "../../redis/unreadable.ts";
import type { Housekeeping } from "./housekeeping.ts";
import type { JobService } from "./job-service.ts";
import type { Swept, Upkeep } from "../ports.ts";

/** Sweeps between two looks for chores: half a minute. */
const CHORES_EVERY = 30;
/** A Master without a sweep for this long is taken off the list of Masters. */
const MASTER_KEPT_MS = 60_000;

export type LeaderlessUpkeepOptions = {
  /** This Master's id. */
  readonly id: string;
  readonly redis: RedisClient;
  readonly keys: Keys;
  readonly jobService: JobService;
  readonly housekeeping: Housekeeping;
  /** Called with the errors of chores that failed. */
  readonly onLate: (error: unknown) => void;
};

/** Upkeep that every Master does. Each time a job or a chore is due, only one Master takes it. */
export class LeaderlessUpkeep implements Upkeep {
  readonly #options: LeaderlessUpkeepOptions;
  #rounds = 0;

  constructor(options: LeaderlessUpkeepOptions) {
    this.#options = options;
  }

  async sweep(): Promise<Swept> {
    const { id, redis, keys, jobService, housekeeping, onLate } = this.#options;
    const nowMs = await redisTimeMs(redis, keys.masters);
    this.#rounds += 1;
    await Promise.all([
      // A Redis that came back empty has no format key.
      writeFormat(redis, keys),
      writeIndex(redis, keys.masters, "zset", () => redis.zadd(keys.masters, nowMs, id)),
      writeIndex(redis, keys.masters, "zset", () =>
        redis.zremrangebyscore(keys.masters, "-inf", nowMs - MASTER_KEPT_MS),
      ),
    ]);
    // Not awaited: a chore may take long, and jobs must not wait for it.
    if (this.#rounds % CHORES_EVERY === 1) housekeeping.work().catch(onLate);
    return jobService.sweep();
  }

  nextDue(blocking: RedisClient, waitMs: number): Promise<string | null> {
    return waitForDueJob(blocking, this.#options.keys, waitMs);
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
