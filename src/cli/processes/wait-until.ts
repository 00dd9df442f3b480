import { pause } from "../../bounded-wait.ts";

const FIRST_PAUSE_MS = 10;
const LONGEST_PAUSE_MS = 200;

/**
 * Calls `condition` repeatedly until it is true or `limitMs` have passed.
 * @returns whether it became true.
 * @throws what `condition` throws, and the signal's reason when it aborts.
 */
export async function waitUntil(
  condition: () => boolean | Promise<boolean>,
  limitMs: number,
  signal?: AbortSignal,
): Promise<boolean> {
  const endMs = performance.now() + limitMs;
  for (let pauseMs = FIRST_PAUSE_MS; ; pauseMs = Math.min(LONGEST_PAUSE_MS, pauseMs * 1.5)) {
    signal?.throwIfAborted();
    if (await condition()) return true;
    const leftMs = endMs - performance.now();
    if (leftMs <= 0) return false;
    await pause(Math.min(pauseMs, leftMs), signal);
  }
}
