import type { HealthCheck } from "./check.ts";
import type { Health } from "./stitch.ts";

/** What the checks of one run of a program have shown so far. `successes` and `failures`: how many in a row came last. */
export type CheckState = { readonly health: Health; readonly successes: number; readonly failures: number };

/** Before the first check of a run. */
export const UNCHECKED: CheckState = { health: "missing", successes: 0, failures: 0 };

/**
 * The state after one more check. A program is `missing` until `greenAfter` checks in a row have succeeded for the first time.
 * From then on a failure makes it yellow, `redAfter` failures in a row make it red, and `greenAfter` successes in a row make
 * it green again; between red and green it is yellow.
 */
export function afterCheck(
  { health, successes, failures }: CheckState,
  succeeded: boolean,
  { greenAfter, redAfter }: Pick<HealthCheck, "greenAfter" | "redAfter">,
): CheckState {
  const next = succeeded ? { successes: successes + 1, failures: 0 } : { successes: 0, failures: failures + 1 };
  if (next.successes >= greenAfter) return { ...next, health: "green" };
  if (health === "missing") return { ...next, health };
  return { ...next, health: next.failures >= redAfter ? "red" : "yellow" };
}
