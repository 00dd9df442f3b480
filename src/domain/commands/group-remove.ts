import { ofGroup } from "./body.ts";
import { define } from "./definition.ts";
import { changedBy, repeatSteps, takeBack } from "./next.ts";
import { planForGroup } from "./one-task-a-node.ts";

/** Stops a group and removes its stitches. Its rollback creates them again as they were, from their removed records. */
export const groupRemove = define({
  schema: ofGroup("group.remove"),
  observe: ({ target }, look) => look.members(target),
  plan: (command, observed) => planForGroup(command, "remove", observed),
  retry: repeatSteps("group.remove"),
  rollback: (job) => takeBack("stitch.create", "remove", changedBy(job), job, true),
});
