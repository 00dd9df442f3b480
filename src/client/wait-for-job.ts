import { pause } from "../bounded-wait.ts";
import type { JobResource } from "../contract/job.ts";
import { ApiError, ApiUnreachable } from "./errors.ts";

/** The API may restart while a job runs. The restart does not affect the job, so the wait continues for this long. */
const API_AWAY_MS = 30_000;
const PAUSE_MS = 250;
/** Most that one request waits: gateways end a request that takes longer, Amazon's after 29 s. */
const LONGEST_STEP_MS = 25_000;

export type WaitOptions = {
  /** How long to wait in all, in milliseconds. */
  readonly timeoutMs: number;
  /** Milliseconds between reads of a job that has not ended (default and most 25,000): how often `onLook` is called. */
  readonly stepMs?: number | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Called with the job before each read, and with the last state of the job. */
  readonly onLook?: ((job: JobResource) => void) | undefined;
};

/**
 * Reads a job until it has ended or the time is up (`finishedAt` is then null).
 * @param read one request, which waits for the job's end at most `waitMs`.
 * @param given the job as last seen, or its id.
 * @throws the signal's reason; ApiError; ApiUnreachable after 30 s without an answer.
 */
export async function waitForJob(
  read: (id: string, options: { readonly waitMs: number; readonly signal?: AbortSignal }) => Promise<JobResource>,
  given: JobResource | string,
  { timeoutMs, stepMs = LONGEST_STEP_MS, signal, onLook }: WaitOptions,
): Promise<JobResource> {
  const endAtMs = performance.now() + timeoutMs;
  const id = typeof given === "string" ? given : given.id;
  let latest = typeof given === "string" ? null : given;
  let awaySinceMs: number | null = null;
  for (;;) {
    if (latest !== null) onLook?.(latest);
    const askedAtMs = performance.now();
    if (latest !== null && (latest.finishedAt !== null || askedAtMs >= endAtMs)) return latest;
    const waitMs = Math.ceil(Math.max(0, Math.min(stepMs, LONGEST_STEP_MS, endAtMs - askedAtMs)));
    try {
      latest = await read(id, { waitMs, ...(signal === undefined ? {} : { signal }) });
      awaySinceMs = null;
    } catch (error) {
      awaySinceMs ??= askedAtMs;
      const late = latest === null && performance.now() >= endAtMs;
      if (late || !isAway(error) || performance.now() - awaySinceMs > API_AWAY_MS) throw error;
    }
    // An API that is stopping answers early, and a missing API fails at once: neither may be asked in a tight loop.
    const early = performance.now() - askedAtMs < Math.min(PAUSE_MS, waitMs);
    if (latest?.finishedAt == null && early) {
      await pause(PAUSE_MS, signal);
      signal?.throwIfAborted();
    }
  }
}

function isAway(error: unknown): boolean {
  return error instanceof ApiUnreachable || (error instanceof ApiError && error.status === 503);
}
