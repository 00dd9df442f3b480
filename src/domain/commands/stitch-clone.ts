import * as z from "zod";
import { assignedTo } from "../job/assignment.ts";
import { RequestError } from "../errors.ts";
import { nodeId, stitchRef } from "../names/ids.ts";
import { planNew } from "../planning/new-stitches.ts";
import { stitchNamed } from "../planning/observed.ts";
import { envelope, timeoutMs } from "./body.ts";
import { define } from "./definition.ts";
import { removeMade, repeatSteps } from "./next.ts";

const schema = z.strictObject({
  command: z.literal("stitch.clone"),
  target: stitchRef,
  toNode: nodeId.optional(),
  timeoutMs,
  ...envelope,
});

/** Creates one more stitch in a stitch's group, with the same spec and data of its own. */
export const stitchClone = define({
  schema,
  observe: ({ target, toNode }, look, draw) => look.stitchToClone(target, toNode, draw),
  plan: (command, observed) => {
    const id = stitchNamed(command.target, observed);
    // The stitch was removed after it was found and before its record was read.
    if (!observed.records.has(id))
      throw new RequestError("not_found", `The stitch "${command.target}" has just been removed.`);
    const source = assignedTo(id, observed.assigned);
    const { waitForNode, timeoutMs: startMs, toNode: node } = command;
    const one = { count: 1, node, id: undefined, start: true, timeoutMs: startMs, waitForNode };
    return planNew({ ...source, ...one }, observed);
  },
  retry: repeatSteps("stitch.clone"),
  rollback: removeMade,
  drawsIds: () => true,
});
