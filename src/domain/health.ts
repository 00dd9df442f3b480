import type { Health } from "./resources.ts";

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
