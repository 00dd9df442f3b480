import { shouldRun } from "../job/chains.ts";
import type { Replacement } from "../job/job.ts";
import { wellBeforeReplacingMs } from "../job/min-healthy.ts";
import { greenIn, type Observed } from "./observed.ts";
import type { StitchRecord } from "../stitch/stitch.ts";

/** How many stitches of the group that takes over have been well for long enough. */
export function countWell(
  { group, minHealthyMs }: Pick<Replacement, "group" | "minHealthyMs">,
  observed: Observed,
): number {
  const isGreen = greenIn(observed);
  const isWell = (record: StitchRecord) =>
    record.state === "running" &&
    record.healthySinceMs !== null &&
    observed.nowMs - record.healthySinceMs >= wellBeforeReplacingMs(record, minHealthyMs);
  return [...observed.records].filter(
    ([id, record]) => record.group === group && isGreen(id) && shouldRun(record) && isWell(record),
  ).length;
}
