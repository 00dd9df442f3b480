import type { Health, StitchRecord } from "./stitch.ts";

/** The most heartbeats missed in a row with which a stitch counts as well, and as slow (process-v1.md, "Health"). */
const GREEN_UP_TO = 1;
const YELLOW_UP_TO = 5;

/**
 * How a stitch responds, counted in heartbeats missed in a row.
 * @param heard whether it has ever answered one since it was started.
 */
export function healthOf(missed: number, heard: boolean): Health {
  if (!heard) return "missing";
  if (missed <= GREEN_UP_TO) return "green";
  return missed <= YELLOW_UP_TO ? "yellow" : "red";
}

const FROM_BEST: readonly Health[] = ["green", "yellow", "red", "missing"];

/** The worse of two healths. `missing` is the worst: nothing is known yet. */
export const worseOf = (one: Health, other: Health): Health =>
  FROM_BEST.indexOf(one) < FROM_BEST.indexOf(other) ? other : one;

/**
 * The health of a stitch as it is shown: null if the stitch cannot respond, because it is stopped, has run to its end, or its
 * node is dead.
 * @param isDead is its node dead? Then the health that the node last published is no longer true.
 */
export function shownHealth(
  { state, health, healthySinceMs }: Pick<StitchRecord, "state" | "health" | "healthySinceMs">,
  isDead: boolean,
): { readonly health: Health | null; readonly healthySinceMs: number | null } {
  if (isDead || state === "stopped" || state === "missing") return { health: null, healthySinceMs: null };
  if (state !== "running" && state !== "stopping") return { health: "missing", healthySinceMs: null };
  return { health, healthySinceMs: health === "green" ? healthySinceMs : null };
}
