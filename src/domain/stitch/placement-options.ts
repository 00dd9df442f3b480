import * as z from "zod";
import { sizeFirst } from "../json/size-first.ts";

const name = z.string().min(1).max(255);
/** Where stitches may live, and the rule that chooses a node for them. */
export const placementOptions = z.strictObject({
  strategy: z.enum(["spread", "binpack"]).default("spread"),
  zones: sizeFirst(100, "zones", z.array(name).min(1).max(100)).optional(),
  labels: sizeFirst(100, "labels", z.record(name, z.string().max(255))).optional(),
  maxPerNode: z.int().min(1).max(100_000).optional(),
});
export type PlacementOptions = z.output<typeof placementOptions>;
