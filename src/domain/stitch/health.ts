import type { Health, StitchRecord } from "./stitch.ts";

/** Heartbeats missed in a row up to which a stitch counts as well, and up to which as slow (process-v1.md, "Health"). */
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

/**
 * A stitch's health as it is shown: null where nothing is to be expected of it, because it is stopped, has run to its end, or
 * its node is dead.
 * @param isDead is its node? What that has said last is the health of nothing.
 */
export function shownHealth(
  { state, health, healthySinceMs }: Pick<StitchRecord, "state" | "health" | "healthySinceMs">,
  isDead: boolean,
): { readonly health: Health | null; readonly healthySinceMs: number | null } {
  if (isDead || state === "stopped" || state === "missing") return { health: null, healthySinceMs: null };
  if (state !== "running" && state !== "stopping") return { health: "missing", healthySinceMs: null };
  return { health, healthySinceMs: health === "green" ? healthySinceMs : null };
}
