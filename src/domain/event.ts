import * as z from "zod";
import { groupContains } from "./names/group.ts";

/** Every type of event. An event tells what happened in the cluster, as well as possible. State is the truth. */
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
/** `stitch`: a full id. Fields that do not apply are left out. */
export type ClusterEvent = z.input<typeof clusterEvent>;

/** `type`: types, families such as `node.*`, or `*`. */
export type EventFilter = {
  readonly type?: readonly string[] | undefined;
  readonly node?: string | undefined;
  readonly group?: string | undefined;
};

type Recorded = Pick<z.output<typeof clusterEvent>, "node" | "stitch" | "group"> & { readonly type: string };

export function eventMatches(event: Recorded, { type, node, group }: EventFilter): boolean {
  return (
    (type === undefined || type.some((one) => one === "*" || one === event.type || ofFamily(event.type, one))) &&
    (node === undefined || node === event.node || event.stitch?.startsWith(`${node}:`) === true) &&
    (group === undefined || (event.group !== null && groupContains(group, event.group)))
  );
}

const ofFamily = (type: string, glob: string): boolean => glob.endsWith(".*") && type.startsWith(glob.slice(0, -1));

/** Compares two event ids: negative if `a` is older, 0 if they are the same, positive if `a` is newer. */
export function compareEventIds(a: string, b: string): number {
  const [aMs = 0, aSeq = 0] = a.split("-").map(Number);
  const [bMs = 0, bSeq = 0] = b.split("-").map(Number);
  return aMs - bMs || aSeq - bSeq;
}
