import type { RestartPolicy } from "./spec.ts";

/** What becomes of a stitch that ended without being asked to. `restarts`: in a row, this one included. */
type AfterExit =
  | { readonly kind: "stopped" }
  | { readonly kind: "again"; readonly inMs: number; readonly restarts: number }
  | { readonly kind: "failed"; readonly reason: string };

/** A run of this length is stable: what went before it no longer counts. */
export const stableAfterMs = (policy: RestartPolicy): number => policy.windowMs;

/**
 * Decides what becomes of a stitch that ended by itself.
 *
 * A restart comes after `backoffMs`, twice as long each time up to `maxBackoffMs`, a quarter of it random so that what fell
 * together does not rise together. Restarts in a row are counted until a run lasts `windowMs`; more than `maxRestarts` of
 * them are a crash loop. Counting runs, not the restarts within a sliding window, ends every loop: with long backoffs a
 * window might never hold enough of them.
 *
 * @param well it exited with code 0.
 * @param ranMs how long it ran; null where it could not even be started.
 * @param restarts in a row before this run.
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
