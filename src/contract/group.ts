import * as z from "zod";
import { STITCH_STATES } from "../domain/stitch/stitch.ts";
import { counts } from "./counts.ts";
import type { Resource } from "./resource.ts";

/** `GET /v1/groups/{group}`: a group and everything inside it. */
export const groupResource = z.object({
  group: z.string(),
  versions: z.array(z.string()),
  stitches: z.object({ byState: counts(STITCH_STATES), byVersion: z.record(z.string(), z.int()) }),
});
export type GroupResource = Resource<typeof groupResource>;
