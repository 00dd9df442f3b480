import * as z from "zod";
import { LIVENESSES } from "../domain/node/node.ts";
import { STITCH_STATES } from "../domain/stitch/stitch.ts";
import { counts } from "./counts.ts";
import type { Resource } from "./resource.ts";
import { time } from "./time.ts";

/** `GET /v1/cluster`. */
export const clusterResource = z.object({
  name: z.string(),
  asOf: time,
  /** Counts by liveness. */
  nodes: counts(LIVENESSES),
  /** Counts by state. */
  stitches: counts(STITCH_STATES),
  openJobs: z.int(),
  /** Ids of the Masters that are alive. */
  masters: z.array(z.string()),
  mode: z.enum(["leaderless", "preferred", "leader"]),
  /** Id of the leader; null without one. */
  leader: z.string().nullable(),
  frozen: z.boolean(),
  version: z.string(),
});
export type ClusterResource = Resource<typeof clusterResource>;
