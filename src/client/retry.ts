import { pause } from "../bounded-wait.ts";
import { ApiError, isAway } from "./errors.ts";

const ATTEMPTS = 3;
const FIRST_PAUSE_MS = 100;
/** Nobody waits longer than this without a message that says why. */
const LONGEST_PAUSE_MS = 5000;

/**
 * Repeats a call, at most twice, if the API is away (`isAway`). Only for calls that may be repeated: reads, and commands
 * with an idempotency key.
 * @throws the error of the last call; the signal's reason if the signal was aborted.
 */
export async function withRetries<T>(call: () => Promise<T>, signal?: AbortSignal): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await call();
    } catch (error) {
      const pauseMs = pauseBefore(error, attempt);
      if (pauseMs === null || attempt >= ATTEMPTS) throw error;
      await pause(pauseMs, signal);
      signal?.throwIfAborted();
    }
  }
}

/** Milliseconds until the next attempt; null if another attempt would not help. */
function pauseBefore(error: unknown, attempt: number): number | null {
  if (!isAway(error)) return null;
  const asked = error instanceof ApiError ? error.retryAfterMs : null;
  return Math.min(LONGEST_PAUSE_MS, asked ?? FIRST_PAUSE_MS * 3 ** (attempt - 1));
}
