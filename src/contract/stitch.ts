import * as z from "zod";
import { stitchSpec } from "../domain/stitch/spec.ts";
import { DESIRED, HEALTHS, STITCH_STATES } from "../domain/stitch/stitch.ts";
import type { Resource } from "./resource.ts";
import { time } from "./time.ts";

/** A row of `GET /v1/stitches`. */
export const listedStitchResource = z.object({
  id: z.string(),
  /** `node:stitch`. */
  fullId: z.string(),
  node: z.string(),
  group: z.string(),
  desired: z.enum(DESIRED),
  state: z.enum(STITCH_STATES),
  /** null if the stitch should not run, has run to its end, or its node is dead. */
  health: z.enum(HEALTHS).nullable(),
  /** Since when it has been green without a break; null if it is not green. */
  healthySince: time.nullable(),
  revision: z.string(),
  restarts: z.int(),
  pid: z.int().nullable(),
  startedAt: time.nullable(),
  lastExit: z.object({ code: z.int().nullable(), signal: z.string().nullable(), at: time }).nullable(),
  /** Measured; null if the stitch is not running or was not measured. */
  resources: z.object({ cpuPercent: z.number().nullable(), memoryBytes: z.number() }).nullable(),
  /** Has it run to its end, so that its policy does not start it again? */
  finished: z.boolean(),
  /** Names the spec of the stitch: two stitches with the same hash run the same. */
  specHash: z.string(),
  observedAt: time,
});
export type ListedStitchResource = Resource<typeof listedStitchResource>;

export const stitchResource = listedStitchResource.extend({
  /** What it runs, with every default filled in; null if this is not known (see `adopt`). */
  spec: stitchSpec.nullable(),
});
export type StitchResource = Resource<typeof stitchResource>;
