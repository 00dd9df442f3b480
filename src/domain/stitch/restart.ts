import type { RestartPolicy } from "./spec.ts";

/** What happens to a stitch that ended by itself. `restarts`: restarts in a row, with this one. */
type AfterExit =
  | { readonly kind: "stopped" }
  | { readonly kind: "again"; readonly inMs: number; readonly restarts: number }
  | { readonly kind: "failed"; readonly reason: string };

/** A run of this length is stable: restarts before it no longer count. */
export const stableAfterMs = (policy: RestartPolicy): number => policy.windowMs;

/**
 * Decides what happens to a stitch that ended by itself.
 *
 * A restart comes after `backoffMs`, twice as long each time, up to `maxBackoffMs`. A quarter of the wait is random, so that
 * stitches that ended together do not restart together. Restarts in a row are counted until a run lasts `windowMs`; more than
 * `maxRestarts` in a row are a crash loop. Counting runs, not the restarts within a sliding window, ends every loop: with long
 * backoffs a window might never hold enough restarts.
 *
 * @param well it exited with code 0.
 * @param ranMs how long it ran; null if it could not even be started.
 * @param restarts how many restarts in a row came before this run.
 * @param random in [0, 1).
 */
export function afterExit(
  policy: RestartPolicy,
  well: boolean,
  ranMs: number | null,
  restarts: number,
  random: number,
): AfterExit {
  if (well && policy.policy !== "always") return { kind: "stopped" };
  if (policy.policy === "never") return { kind: "failed", reason: "it ended badly, and its restart policy is never" };
  const counted = ranMs !== null && ranMs >= stableAfterMs(policy) ? 0 : restarts;
  if (counted >= policy.maxRestarts)
    return {
      kind: "failed",
      reason:
        policy.maxRestarts === 0
          ? "it ended, and its restart policy allows no restart"
          : `a crash loop: it was restarted ${counted} times and never ran for ${stableAfterMs(policy)} ms`,
    };
  const wholeMs = Math.min(policy.maxBackoffMs, policy.backoffMs * 2 ** Math.min(counted, 30));
  return { kind: "again", inMs: Math.round(wholeMs * (0.75 + 0.25 * random)), restarts: counted + 1 };
}
