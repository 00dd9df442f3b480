import { ofGroup } from "./body.ts";
import { define } from "./definition.ts";
import { changedBy, repeatSteps, takeBack } from "./next.ts";
import { planForGroup } from "./one-task-a-node.ts";

/** Stops a group; its stitches stay where they are. */
export const groupStop = define({
  schema: ofGroup("group.stop"),
  observe: ({ target }, look) => look.members(target),
  plan: (command, observed) => planForGroup(command, "stop", observed),
  retry: repeatSteps("group.stop"),
  rollback: (job) => takeBack("group.start", "start", changedBy(job), job),
});
