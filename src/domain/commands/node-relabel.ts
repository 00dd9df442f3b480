import * as z from "zod";
import { nodeId } from "../names/ids.ts";
import { sizeFirst } from "../json/size-first.ts";
import { envelope } from "./body.ts";
import { define } from "./definition.ts";
import { changedBy, type Next, notReversible, planAnew } from "./next.ts";
import { planForNode } from "./one-task-a-node.ts";

/** As in `STITCH_LABELS`. */
const name = z.string().min(1).max(255);
/** The most labels in one command. */
const MOST = 100;

/** Labels that are set by command: a value, or null, which takes away a label that the worker was started with. */
const labels = sizeFirst(MOST, "labels", z.record(name, z.string().max(255).nullable()));
/** Labels that are no longer set by command: they are again as the worker was started with them. */
const unset = sizeFirst(MOST, "labels", z.array(name));

const schema = z
  .strictObject({
    command: z.literal("node.relabel"),
    target: nodeId,
    labels: labels.prefault({}),
    unset: unset.prefault([]),
    ...envelope,
  })
  .refine((body) => Object.keys(body.labels).length + body.unset.length > 0, {
    path: ["labels"],
    message: 'name at least one label, such as {"disk": "ssd"}; null takes one away',
  })
  .refine(
    (body) =>
      new Set([...Object.keys(body.labels), ...body.unset]).size ===
      Object.keys(body.labels).length + body.unset.length,
    {
      path: ["unset"],
      message: "each label is named once",
    },
  );

/** The output of a relabel step: how the labels were set before. The command that takes the job back sets them so again. */
const output = z.object({ before: z.object({ labels, unset }) });

/**
 * Sets labels of a node by command. They override the labels that its worker was started with, survive a restart of the
 * worker, and count for placement immediately. The node need not be alive.
 */
export const nodeRelabel = define({
  schema,
  observe: ({ target }, look) => look.node(target),
  plan: (command, observed) => {
    const { labels: wanted, unset: dropped } = command;
    return planForNode(
      command,
      { action: "relabel", stitch: null, labels: wanted, unset: dropped },
      "master",
      observed,
    );
  },
  retry: (job) => planAnew("node.relabel", job),
  rollback: (job): Next => {
    const [changed] = changedBy(job);
    if (changed === undefined) throw notReversible("it changed nothing");
    const { before } = output.parse(changed.outcome?.output);
    const body = { target: job.record.target, ...before };
    return { kind: "command", name: "node.relabel", body, only: null, notUp: [] };
  },
});
