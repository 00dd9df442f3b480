import { pause } from "../../bounded-wait.ts";
import type { ChosenMaster, Right } from "../../domain/master-mode.ts";
import { markJobDue, takeDueJobs, waitForDueJob } from "../../redis/job/due-jobs.ts";
import type { RedisClient } from "../../redis/connection/client.ts";
import { writeFormat } from "../../redis/format.ts";
import { openJobsOf } from "../../redis/job/job-index.ts";
import type { Keys } from "../../redis/keys.ts";
import type { Housekeeping } from "./housekeeping.ts";
import type { NodeWatch } from "../nodes/node-watch.ts";
import type { JobService } from "./job-service.ts";
import type { MasterPresence } from "./master-presence.ts";
import type { Swept, Upkeep } from "../ports.ts";

/** Sweeps between two looks for chores: half a minute. */
const CHORES_EVERY = 30;
/** A Master whose sweeps have failed or hung for this long is not well: it is not seen, so that another one decides. */
const NOT_WELL_MS = 10_000;
/** A Master that is not well tries again after this. */
const TRY_AGAIN_MS = 40_000;
/** Where one Master decides, how long one wait for a due job lasts: after it, another one may. */
const TURN_MS = 1000;
/** How often a Master is seen. */
const SEEN_MS = 1000;

export type SharedUpkeepOptions = {
  readonly redis: RedisClient;
  readonly keys: Keys;
  readonly chosen: ChosenMaster;
  readonly presence: MasterPresence;
  readonly deciding: () => Right | null;
  /** In the mode `leader`, this Master's part in the election; else null. */
  readonly leader: { takePart(): Promise<number>; stepDown(): Promise<void>; stop(): Promise<void> } | null;
  readonly jobService: JobService;
  readonly housekeeping: Housekeeping;
  readonly nodeWatch: NodeWatch;
  /** Called with the errors of chores that failed. */
  readonly onLate: (error: unknown) => void;
  /** A monotonic clock. */
  readonly steadyNowMs: () => number;
};

/** Upkeep that the deciding Masters share. Each time a job or a chore is due, only one Master takes it. */
export class SharedUpkeep implements Upkeep {
  readonly #options: SharedUpkeepOptions;
  #rounds = 0;
  /** When a sweep last ended well. */
  #wellAtMs: number;
  #joinedAtMs: number;

  constructor(options: SharedUpkeepOptions) {
    this.#options = options;
    this.#wellAtMs = options.steadyNowMs();
    this.#joinedAtMs = this.#wellAtMs;
  }

  async join(): Promise<number> {
    const { leader, steadyNowMs } = this.#options;
    const nowMs = steadyNowMs();
    // The whole process was paused: that says nothing about its sweeps.
    if (nowMs - this.#joinedAtMs > NOT_WELL_MS) this.#wellAtMs = nowMs;
    this.#joinedAtMs = nowMs;
    const notWellMs = nowMs - this.#wellAtMs;
    if (notWellMs > TRY_AGAIN_MS) this.#wellAtMs = nowMs;
    else if (notWellMs > NOT_WELL_MS) {
      await leader?.stepDown();
      return SEEN_MS;
    }
    try {
      await this.#options.presence.see();
      return leader === null ? SEEN_MS : Math.min(SEEN_MS, await leader.takePart());
    } catch (error) {
      // Redis is away for the list, too: that is no failure of the sweeps, and work goes on as soon as Redis is back.
      this.#wellAtMs = this.#options.steadyNowMs();
      throw error;
    }
  }

  async leave(): Promise<void> {
    await Promise.all([this.#options.leader?.stop(), this.#options.presence.leave()]);
  }

  async sweep(): Promise<Swept> {
    const { redis, keys, deciding, jobService, housekeeping, onLate, steadyNowMs } = this.#options;
    // A Redis that came back empty has no format key.
    await writeFormat(redis, keys);
    let swept: Swept = { looked: 0, dispatched: 0, closed: 0 };
    if (deciding() !== null) {
      this.#rounds += 1;
      // Not awaited: a chore may take long, and jobs must not wait for it.
      if (this.#rounds % CHORES_EVERY === 1) housekeeping.work().catch(onLate);
      swept = await jobService.sweep();
    } else if (steadyNowMs() - this.#wellAtMs > NOT_WELL_MS) return swept;
    this.#wellAtMs = steadyNowMs();
    return swept;
  }

  async watchNodes(): Promise<number> {
    const { deciding, nodeWatch } = this.#options;
    if (deciding() !== null) return nodeWatch.look();
    nodeWatch.rest();
    return TURN_MS;
  }

  async nextDue(blocking: RedisClient, waitMs: number): Promise<string | null> {
    const { redis, keys, chosen, deciding } = this.#options;
    if (chosen.mode === "leaderless" || chosen.mode === "own") return waitForDueJob(blocking, keys, waitMs);
    if (deciding() === null) {
      await pause(Math.min(waitMs, TURN_MS));
      return null;
    }
    const id = await waitForDueJob(blocking, keys, Math.min(waitMs, TURN_MS));
    if (id === null || deciding() !== null) return id;
    // It is another Master's by now.
    await markJobDue(redis, keys, id);
    return null;
  }

  async takeDue(most: number): Promise<readonly string[]> {
    const { redis, keys, deciding } = this.#options;
    return deciding() === null ? [] : takeDueJobs(redis, keys, most);
  }

  async advance(ids: readonly string[]): Promise<void> {
    const { redis, keys, jobService } = this.#options;
    const open = await openJobsOf(redis, keys, ids);
    await Promise.all(open.map((id) => jobService.advance(id)));
  }
}
