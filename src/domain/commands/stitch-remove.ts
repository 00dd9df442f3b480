import { ofStitch } from "./body.ts";
import { define } from "./definition.ts";
import { changedBy, repeatSteps, takeBack } from "./next.ts";
import { planForStitch } from "./one-task-a-node.ts";

/** Stops a stitch and removes it. Its rollback creates it again as it was, from its removed record. */
export const stitchRemove = define({
  schema: ofStitch("stitch.remove"),
  observe: ({ target }, look) => look.stitch(target),
  plan: (command, observed) => planForStitch(command, "remove", observed),
  retry: repeatSteps("stitch.remove"),
  rollback: (job) => takeBack("stitch.create", "remove", changedBy(job), job, true),
});
