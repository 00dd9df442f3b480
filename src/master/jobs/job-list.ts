import type { ListedJobResource, ListedStepResource } from "../../contract/job.ts";
import type { ListResource } from "../../contract/list.ts";
import type { RedisClient } from "../../redis/connection/client.ts";
import { readAsOf } from "../state/as-of.ts";
import { listJobIds } from "../../redis/job/job-index.ts";
import type { Keys } from "../../redis/keys.ts";
import { type OnUnreadable, passingOver } from "../../redis/unreadable.ts";
import { decodeCursor, encodeCursor } from "../state/cursor.ts";
import type { JobService } from "./job-service.ts";
import { iso } from "../../contract/time.ts";
import { allSteps, listedJob } from "./job-view.ts";
import type { JobFilter, Page, StepFilter } from "../ports.ts";
import { search } from "../state/search.ts";

/** Jobs of a page whose ids are read in one round trip. */
const IDS_AT_ONCE = 1000;
/** Jobs that are read in one more: the record of a job of many steps may have megabytes. */
const JOBS_AT_ONCE = 500;

export type JobListOptions = {
  readonly redis: RedisClient;
  readonly keys: Keys;
  readonly jobService: JobService;
  readonly nowMs: () => number;
  readonly onUnreadable: OnUnreadable;
};

/** Lists jobs, and the steps of one job. */
export class JobList {
  readonly #options: JobListOptions;

  constructor(options: JobListOptions) {
    this.#options = options;
  }

  /** Jobs, the newest first. */
  async jobs(page: Page, filter: JobFilter): Promise<ListResource<ListedJobResource>> {
    const { redis, keys, jobService, nowMs, onUnreadable } = this.#options;
    const isWanted = (job: ListedJobResource) =>
      (filter.status === undefined || job.status === filter.status) &&
      (filter.target === undefined || job.target === filter.target) &&
      (filter.command === undefined || job.command === filter.command);
    const found = () =>
      search({
        limit: page.limit,
        atOnce: IDS_AT_ONCE,
        after: page.cursor === null ? null : decodeCursor(page.cursor, jobCursor),
        read: (after: JobPlace | null, count) => listJobIds(redis, keys, after, count),
        view: async (rows) => {
          const found = [];
          for (let at = 0; at < rows.length; at += JOBS_AT_ONCE) {
            const part = rows.slice(at, at + JOBS_AT_ONCE);
            const looks = part.map(({ id }) => jobService.look(id).catch(passingOver(onUnreadable)));
            found.push(...(await Promise.all(looks)));
          }
          return found
            .map((job) => (job === null ? null : listedJob(job.state, job.folded)))
            .map((job) => (job !== null && isWanted(job) ? job : null));
        },
        nowMs,
      });
    const [asOfMs, { items, last }] = await readAsOf(redis, keys, found);
    return {
      items,
      nextCursor: last === null ? null : encodeCursor([last.createdAtMs, last.id]),
      asOf: iso(asOfMs),
    };
  }

  /** The steps of a job, in the order of its tasks. @throws RequestError `not_found`. */
  async steps(id: string, page: Page, filter: StepFilter): Promise<ListResource<ListedStepResource>> {
    const { state, folded } = await this.#options.jobService.advanceKnown(id);
    const from = page.cursor === null ? 0 : decodeCursor(page.cursor, (v) => (Number.isInteger(v) ? Number(v) : null));
    const wanted = allSteps(folded)
      .filter((step) => filter.status === undefined || step.status === filter.status)
      .filter((step) => filter.node === undefined || step.node === filter.node);
    const end = from + page.limit;
    return {
      items: wanted.slice(from, end),
      nextCursor: end < wanted.length ? encodeCursor(end) : null,
      asOf: iso(state.nowMs),
    };
  }
}

type JobPlace = { readonly createdAtMs: number; readonly id: string };

const jobCursor = (value: unknown): JobPlace | null =>
  Array.isArray(value) && typeof value[0] === "number" && typeof value[1] === "string"
    ? { createdAtMs: value[0], id: value[1] }
    : null;
