import type { JobResource } from "../../contract/job.ts";
import type { ClientContext } from "../calls/client-action.ts";
import { printable } from "../../printable.ts";

/** Full ids of the stitches that a job created: new stitches, and moved ones with their new full id. */
function createdStitches(job: Pick<JobResource, "tasks">): string[] {
  const created = job.tasks.flatMap(({ steps }) =>
    steps.flatMap(({ action, stitch, status }) =>
      action === "create" && status === "succeeded" && stitch !== null ? [stitch] : [],
    ),
  );
  return [...new Set(created)];
}

/** Prints the full ids of the created stitches, one per line: the answer of a command that creates or moves. */
export const printCreated =
  ({ output }: Pick<ClientContext, "output">) =>
  (job: JobResource): void => {
    for (const stitch of createdStitches(job)) output.print(printable(stitch));
  };
