import type { StitchStep } from "../job/job.ts";
import type { Observed } from "./observed.ts";
import { parseRevision } from "../names/revision.ts";

/**
 * Does a step of a job with this revision mean the stitch whose `born` is `ofBirth`? A stitch that the job created was born by
 * this revision. A stitch that the job found was not born later: a later one is another stitch that got the id since.
 */
export function means({ action, born }: StitchStep, revision: number, ofBirth: string): boolean {
  if (born !== undefined) return ofBirth === born;
  const bornBy = parseRevision(ofBirth).revision;
  return action === "create" ? bornBy === revision : bornBy <= revision;
}

/** The full ids of the existing stitches that the steps mean. */
export function meantIn(
  records: Observed["records"],
  steps: readonly StitchStep[],
  revision: number,
): ReadonlySet<string> {
  const found = steps.filter((step) => {
    const record = records.get(step.stitch);
    return record !== undefined && means(step, revision, record.born);
  });
  return new Set(found.map(({ stitch }) => stitch));
}
