import * as z from "zod";
import { RequestError } from "../errors.ts";
import { fullGroupName } from "../names/group.ts";
import { nodeId, stitchId } from "../names/ids.ts";
import { planNew } from "../planning/new-stitches.ts";
import { placementOptions } from "../stitch/placement-options.ts";
import { stitchSpec } from "../stitch/spec.ts";
import { envelope, timeoutMs } from "./body.ts";
import { define } from "./definition.ts";
import { removeMade, repeatSteps } from "./next.ts";

const schema = z
  .strictObject({
    command: z.literal("stitch.create"),
    target: fullGroupName,
    spec: stitchSpec,
    count: z.int().min(1).max(1000).default(1),
    node: nodeId.optional(),
    id: stitchId.optional(),
    placement: placementOptions.prefault({}),
    start: z.boolean().default(true),
    timeoutMs,
    ...envelope,
  })
  .refine((body) => body.id === undefined || body.count === 1, {
    path: ["id"],
    message: "an id names one stitch: leave it out, or set count to 1",
  });

/** Creates stitches of a group, if there is room for all of them. */
export const stitchCreate = define({
  schema,
  observe: ({ target: group, node, id, count, spec: asked }, look, draw) => {
    const spec = { ...asked, reschedule: asked.reschedule ?? node === undefined };
    return look.newStitches({ group, node, id, count, spec }, draw);
  },
  plan: (command, observed) => {
    const [taken] = observed.stitches;
    if (taken !== undefined)
      throw new RequestError("stitch_exists", `There is a stitch "${taken}"; remove it first, or choose another id.`, {
        candidates: observed.stitches,
      });
    const { target: group, placement, count, node, id, start, timeoutMs: startMs, waitForNode } = command;
    if (observed.toStore === null) throw new Error("planned before its spec was hashed");
    const what = { ...observed.toStore, group, placement };
    return planNew({ ...what, count, node, id, start, timeoutMs: startMs, waitForNode }, observed);
  },
  retry: repeatSteps("stitch.create"),
  rollback: removeMade,
  drawsIds: ({ id }) => id === undefined,
});
