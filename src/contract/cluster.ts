import * as z from "zod";
import { MASTER_MODES } from "../domain/master-mode.ts";
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
  /** The Masters that are alive, by id. */
  masters: z.array(z.object({ id: z.string(), version: z.string(), lastSeenAt: time })),
  mode: z.enum(MASTER_MODES),
  /** In the mode `preferred`, the id of the preferred Master; else null. */
  preferred: z.string().nullable(),
  /** In the mode `leader`, the id of the Master that leads; null without one. */
  leader: z.string().nullable(),
  /** The leader's election: elections are ordered by `epoch`, then by `n`. null without a leader. */
  election: z.object({ id: z.string(), epoch: z.int(), n: z.int() }).nullable(),
  /** In the mode `leader`, where the leader's lease lives; null otherwise, and before the first election. */
  lease: z.string().nullable(),
  frozen: z.boolean(),
  version: z.string(),
});
/** The answer of `POST /v1/masters/mode`. `before` is null if no mode was recorded. */
export const masterModeResource = z.object({
  mode: z.enum(MASTER_MODES),
  preferred: z.string().nullable(),
  lease: z.string().nullable(),
  before: z.string().nullable(),
});
export type MasterModeResource = Resource<typeof masterModeResource>;

export type ClusterResource = Resource<typeof clusterResource>;
