import { ofStitch } from "./body.ts";
import { define } from "./definition.ts";
import { changedBy, repeatSteps, takeBack } from "./next.ts";
import { planForStitch } from "./one-task-a-node.ts";

/** Starts a stitch that is stopped. */
export const stitchStart = define({
  schema: ofStitch("stitch.start"),
  observe: ({ target }, look) => look.stitch(target),
  plan: (command, observed) => planForStitch(command, "start", observed),
  retry: repeatSteps("stitch.start"),
  rollback: (job) => takeBack("stitch.stop", "stop", changedBy(job), job),
});
