import { ofNode } from "./body.ts";
import { define } from "./definition.ts";
import { changedBy, type Next, notReversible, planAnew } from "./next.ts";
import { planForNode } from "./one-task-a-node.ts";

/** Lets a node take new stitches again; ends a drain. */
export const nodeUncordon = define({
  schema: ofNode("node.uncordon"),
  observe: ({ target }, look) => look.node(target),
  plan: (command, observed) => planForNode(command, { action: "uncordon", stitch: null }, "master", observed),
  retry: (job) => planAnew("node.uncordon", job),
  rollback: (job): Next => {
    if (changedBy(job).length === 0) throw notReversible("it changed nothing");
    return { kind: "command", name: "node.cordon", body: { target: job.record.target }, only: null, notUp: [] };
  },
});
