import { ofStitch } from "./body.ts";
import { define } from "./definition.ts";
import { never, repeatSteps } from "./next.ts";
import { planForStitch } from "./one-task-a-node.ts";

/** Stops a stitch and starts it again. */
export const stitchRestart = define({
  schema: ofStitch("stitch.restart"),
  observe: ({ target }, look) => look.stitch(target),
  plan: (command, observed) => planForStitch(command, "restart", observed),
  retry: repeatSteps("stitch.restart"),
  rollback: never("a restart cannot be undone"),
});
