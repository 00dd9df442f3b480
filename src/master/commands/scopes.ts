import { RequestError } from "../../domain/errors.ts";
import type { Right } from "../../domain/master-mode.ts";
import { giveUpDrafts, releaseScopes, takeScopes } from "../../redis/job/busy.ts";
import { passingOver } from "../../redis/unreadable.ts";
import type { JobService, JobServiceOptions } from "../jobs/job-service.ts";

/** A job that holds scopes and has no record after this time is given up: its Master died or was delayed. */
const UNACCEPTED_MS = 10_000;
/** Most ended jobs that still hold scopes, released one after the other. */
const MOST_HOLDERS = 100;

type HoldOptions = Pick<JobServiceOptions, "redis" | "keys" | "onUnreadable"> & { readonly jobService: JobService };

/**
 * Takes scopes for a draft of a job (see `Plan.scopes`), also from jobs that have ended, and from drafts that nobody finishes.
 * @returns "at once": see `takeScopes`; else "later".
 * @throws RequestError `group_busy` if another job of many steps holds an overlapping scope.
 */
export async function holdScopes(
  { redis, keys, jobService, onUnreadable }: HoldOptions,
  right: Right,
  id: string,
  draft: string,
  scopes: readonly string[],
): Promise<"at once" | "later"> {
  for (let round = 0; round < MOST_HOLDERS; round++) {
    const { holder, atOnce } = await takeScopes(redis, keys, right, id, draft, scopes);
    if (holder === null) return round === 0 && atOnce ? "at once" : "later";
    let isThere = true;
    const found = await jobService.advance(holder.job).then((job) => {
      isThere = job !== null;
      return job;
    }, passingOver(onUnreadable));
    // A job whose record cannot be read still keeps its scopes.
    if (!isThere && holder.heldMs >= UNACCEPTED_MS) {
      await giveUpDrafts(redis, keys, holder.job);
      continue;
    }
    const isOpen = found === null || found.state.marks.closed === null;
    if (isOpen)
      throw new RequestError(
        "group_busy",
        `Another job works on this: ${holder.job}${found === null ? "" : ` (${found.state.record.command} ${found.state.record.target})`}. Wait for its end, or cancel it.`,
        { jobId: holder.job },
      );
    // The job has ended, and the Master that ended it died before it released the scopes.
    await releaseScopes(redis, keys, holder.job);
  }
  throw new Error(`${MOST_HOLDERS} jobs that have ended still held what this one works on`);
}
