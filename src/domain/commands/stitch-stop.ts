import { ofStitch } from "./body.ts";
import { define } from "./definition.ts";
import { changedBy, repeatSteps, takeBack } from "./next.ts";
import { planForStitch } from "./one-task-a-node.ts";

/** Stops a stitch; it stays where it is. */
export const stitchStop = define({
  schema: ofStitch("stitch.stop"),
  observe: ({ target }, look) => look.stitch(target),
  plan: (command, observed) => planForStitch(command, "stop", observed),
  retry: repeatSteps("stitch.stop"),
  rollback: (job) => takeBack("stitch.start", "start", changedBy(job), job),
});
