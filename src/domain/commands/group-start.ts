import { ofGroup } from "./body.ts";
import { define } from "./definition.ts";
import { changedBy, repeatSteps, takeBack } from "./next.ts";
import { planForGroup } from "./one-task-a-node.ts";

/** Starts the stopped stitches of a group. */
export const groupStart = define({
  schema: ofGroup("group.start"),
  observe: ({ target }, look) => look.members(target),
  plan: (command, observed) => planForGroup(command, "start", observed),
  retry: repeatSteps("group.start"),
  rollback: (job) => takeBack("group.stop", "stop", changedBy(job), job),
});
