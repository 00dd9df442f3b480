import { ofNode } from "./body.ts";
import { define } from "./definition.ts";
import { changedBy, type Next, notReversible, planAnew } from "./next.ts";
import { planForNode } from "./one-task-a-node.ts";

/** Stops a node from taking new stitches. */
export const nodeCordon = define({
  schema: ofNode("node.cordon"),
  observe: ({ target }, look) => look.node(target),
  plan: (command, observed) => planForNode(command, { action: "cordon", stitch: null }, "master", observed),
  retry: (job) => planAnew("node.cordon", job),
  rollback: (job): Next => {
    if (changedBy(job).length === 0) throw notReversible("it changed nothing");
    return { kind: "command", name: "node.uncordon", body: { target: job.record.target }, only: null, notUp: [] };
  },
});
