import { pause } from "../bounded-wait.ts";
import type { JobResource } from "../contract/job.ts";
import { ApiError, isAway, isRateLimited } from "./errors.ts";

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
 * @throws the signal's reason; ApiError; NotTheApi; that the API is away only after 30 s of it (`isAway`), and that there are
 *   too many requests only if nothing is known of the job when the time is up.
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
    let pauseMs = 0;
    const waitMs = Math.ceil(Math.max(0, Math.min(stepMs, LONGEST_STEP_MS, endAtMs - askedAtMs)));
    try {
      latest = await read(id, { waitMs, ...(signal === undefined ? {} : { signal }) });
      awaySinceMs = null;
    } catch (error) {
      if (latest === null && performance.now() >= endAtMs) throw error;
      if (isRateLimited(error)) {
        // The API is there, and has no place for one more wait: those of others end.
        awaySinceMs = null;
        const askedMs = error instanceof ApiError ? error.retryAfterMs : null;
        pauseMs = Math.max(PAUSE_MS, askedMs ?? 0);
      } else {
        awaySinceMs ??= askedAtMs;
        if (!isAway(error) || performance.now() - awaySinceMs > API_AWAY_MS) throw error;
      }
    }
    // An API that is stopping answers early, and a missing API fails at once: neither may be asked in a tight loop.
    if (performance.now() - askedAtMs < Math.min(PAUSE_MS, waitMs)) pauseMs ||= PAUSE_MS;
    if (latest?.finishedAt == null && pauseMs > 0) {
      await pause(Math.min(pauseMs, Math.max(PAUSE_MS, endAtMs - performance.now())), signal);
      signal?.throwIfAborted();
    }
  }
}
