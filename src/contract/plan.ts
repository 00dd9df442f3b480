import * as z from "zod";
import { refusalResource } from "./refusal.ts";
import { stepResource } from "./job.ts";
import type { Resource } from "./resource.ts";
import { time } from "./time.ts";

/** What a command would do (`dryRun`). */
export const planResource = z.object({
  command: z.string(),
  target: z.string(),
  feasible: z.boolean(),
  tasks: z.array(z.object({ node: z.string(), steps: z.array(stepResource.pick({ action: true, stitch: true })) })),
  placements: z.array(z.object({ stitch: z.string(), node: z.string(), reason: z.string() })),
  refusals: z.array(refusalResource),
  warnings: z.array(z.object({ code: z.string(), message: z.string(), stitch: z.string().exactOptional() })),
  /** Sent back with the same command: the API then refuses other tasks than these (`plan_stale`). null if not feasible. */
  planToken: z.string().nullable(),
  /** The least time the command takes, in milliseconds: how long stitches must have been well, summed over the waves. */
  leastDurationMs: z.int(),
  asOf: time,
  /** Id of the Master that has made the plan. In the mode `leader`, the leader makes its own when the command is given. */
  master: z.string(),
});
export type PlanResource = Resource<typeof planResource>;
