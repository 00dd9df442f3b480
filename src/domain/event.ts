import * as z from "zod";

/** Every type of event; what happened in the cluster, told as well as may be. State is the truth. */
export const EVENT_TYPES = [
  "node.joined",
  "node.suspect",
  "node.dead",
  "node.left",
  "node.back",
  "node.cordoned",
  "node.uncordoned",
  "node.drained",
  "stitch.created",
  "stitch.started",
  "stitch.stopped",
  "stitch.failed",
  "stitch.removed",
  "stitch.moved",
  "stitch.health",
  "job.accepted",
  "job.progressed",
  "job.ended",
  "leader.elected",
  "leader.lost",
  "cluster.frozen",
  "cluster.unfrozen",
] as const;
export type EventType = (typeof EVENT_TYPES)[number];

export const clusterEvent = z.object({
  type: z.enum(EVENT_TYPES),
  node: z.string().nullable().default(null),
  stitch: z.string().nullable().default(null),
  group: z.string().nullable().default(null),
  job: z.string().nullable().default(null),
  data: z.record(z.string(), z.unknown()).nullable().default(null),
});
/** `stitch`: a full id. What does not apply is left out. */
export type ClusterEvent = z.input<typeof clusterEvent>;
