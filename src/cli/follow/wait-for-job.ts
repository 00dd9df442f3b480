import { pause } from "../../bounded-wait.ts";
import { ApiError, ApiUnreachable, type Client } from "../../client/client.ts";
import type { JobResource } from "../../contract/job.ts";

/** The API may restart while a job runs. The restart does not affect the job, so the wait continues for this long. */
const API_AWAY_MS = 30_000;
const PAUSE_MS = 250;

export type Waiting = {
  readonly client: Pick<Client, "job">;
  /** How long to wait in all, in milliseconds. */
  readonly timeoutMs: number;
  /** Milliseconds between reads of a job that has not ended (at most 30,000). */
  readonly stepMs: number;
  readonly signal: AbortSignal;
  /** Called with the job before each read, and with the last state of the job. */
  readonly onLook: (job: JobResource) => void;
};

/**
 * Reads a job until it has ended or the time is up (`finishedAt` is then null).
 * @throws the signal's reason; ApiError; ApiUnreachable after 30 s without an answer.
 */
export async function waitForJob(job: JobResource, waiting: Waiting): Promise<JobResource> {
  const { client, signal } = waiting;
  const endAtMs = performance.now() + waiting.timeoutMs;
  let latest = job;
  let awaySinceMs: number | null = null;
  for (;;) {
    waiting.onLook(latest);
    const askedAtMs = performance.now();
    if (latest.finishedAt !== null || askedAtMs >= endAtMs) return latest;
    const waitMs = Math.ceil(Math.min(waiting.stepMs, 30_000, endAtMs - askedAtMs));
    try {
      latest = await client.job(job.id, { waitMs, signal });
      awaySinceMs = null;
    } catch (error) {
      awaySinceMs ??= askedAtMs;
      if (!isAway(error) || performance.now() - awaySinceMs > API_AWAY_MS) throw error;
    }
    // An API that is stopping answers early, and a missing API fails at once: neither may be asked in a tight loop.
    const early = performance.now() - askedAtMs < Math.min(PAUSE_MS, waitMs);
    if (latest.finishedAt === null && early) {
      await pause(PAUSE_MS, signal);
      signal.throwIfAborted();
    }
  }
}

function isAway(error: unknown): boolean {
  return error instanceof ApiUnreachable || (error instanceof ApiError && error.status === 503);
}
