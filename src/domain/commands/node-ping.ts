import { ofNode } from "./body.ts";
import { define } from "./definition.ts";
import { never, planAnew } from "./next.ts";
import { planForNode } from "./one-task-a-node.ts";

/** Asks a node to answer, through its queue. */
export const nodePing = define({
  schema: ofNode("node.ping"),
  observe: ({ target }, look) => look.node(target),
  plan: (command, observed) => planForNode(command, { action: "ping", stitch: null }, "node", observed),
  retry: (job) => planAnew("node.ping", job),
  rollback: never("a ping changes nothing"),
});
