import * as z from "zod";
import { type Resources, resources } from "../stitch/spec.ts";
import { STITCH_STATES } from "../stitch/stitch.ts";

export const LIVENESSES = ["alive", "suspect", "dead", "left"] as const;
export type Liveness = (typeof LIVENESSES)[number];

/** May it get new stitches? Independent of its liveness. */
export const ELIGIBILITIES = ["eligible", "cordoned", "draining"] as const;
export type Eligibility = (typeof ELIGIBILITIES)[number];

/** How a node describes itself when it registers: fixed for the life of an incarnation. */
export const nodeFacts = z.object({
  zones: z.array(z.string()),
  labels: z.record(z.string(), z.string()),
  capacity: resources,
  modules: z.array(z.string()),
  version: z.string(),
});
export type NodeFacts = z.output<typeof nodeFacts>;

/** The values of a node that change while it runs. They are published with each heartbeat. */
export const nodeStatus = z.object({
  reserved: resources,
  stitchCount: z.int().min(0),
  /** How many of its stitches are in each published state, so that a summary of the cluster reads one small field per node. */
  states: z.partialRecord(z.enum(STITCH_STATES), z.int().min(0)),
  /** The eligibility the node last heard of. If it is not `eligible`, the node takes nothing new, even if planned before. */
  eligibility: z.enum(ELIGIBILITIES).default("eligible"),
});
export type NodeStatus = z.output<typeof nodeStatus>;

/** Measured load. It is only true while the node lives, so it expires with the lease. */
export const nodeLoad = z.object({
  cpuPercent: z.number(),
  memoryBytes: z.number(),
  eventLoopDelayMs: z.number(),
});
export type NodeLoad = z.output<typeof nodeLoad>;

/** A node as Redis has it. Times are Unix milliseconds by Redis's clock. */
export type NodeRecord = {
  readonly id: string;
  readonly incarnation: number;
  readonly leaseUntilMs: number;
  /** Set if the node left voluntarily. */
  readonly leftAtMs: number | null;
  readonly startedAtMs: number;
  readonly lastBeatAtMs: number;
  readonly facts: NodeFacts;
  readonly status: NodeStatus;
  readonly load: NodeLoad | null;
  readonly eligibility: Eligibility;
  /** Revision of the last command that made the node eligible again; 0 if there was none. */
  readonly uncordonedBy: number;
  /** The incarnation that a Master declared dead, if any. */
  readonly deadIncarnation: number | null;
  /** When this was read, by the same clock as its other times. */
  readonly readAtMs: number;
};

/**
 * The liveness of a node. It is derived from the lease at each read, never stored.
 * - `left`: the node said so. - `alive`: its lease runs. - `suspect`: the lease has run out.
 * - `dead`: the lease ran out `deadAfterMs` ago, or a Master declared this incarnation dead.
 * This is the liveness when the record was read: in a Redis Cluster no other clock can be compared with the lease.
 * @param node null or undefined if Redis does not know the node: then it is dead.
 */
export function livenessOf(
  node:
    | Pick<NodeRecord, "incarnation" | "leaseUntilMs" | "leftAtMs" | "deadIncarnation" | "readAtMs">
    | null
    | undefined,
  deadAfterMs: number,
): Liveness {
  if (node == null) return "dead";
  if (node.leftAtMs !== null) return "left";
  if (node.deadIncarnation === node.incarnation) return "dead";
  if (node.readAtMs < node.leaseUntilMs) return "alive";
  return node.readAtMs < node.leaseUntilMs + deadAfterMs ? "suspect" : "dead";
}

/** Is the node present (alive or suspect)? If not, what it last said about the health of its stitches is no longer true. */
export const isPresent = (liveness: Liveness): boolean => liveness === "alive" || liveness === "suspect";

/** Does a stitch that asks for `asked` fit beside what is reserved? @returns the resource that is short, or null. */
export function shortOf(capacity: Resources, reserved: Resources, asked: Resources): "cpu" | "memory" | null {
  // Thousandths of a core: sums of fractions such as 0.1 + 0.2 must not refuse what fits exactly.
  const milli = (cores: number) => Math.round(cores * 1000);
  if (asked.cpu > 0 && milli(reserved.cpu) + milli(asked.cpu) > milli(capacity.cpu)) return "cpu";
  if (asked.memoryBytes > 0 && reserved.memoryBytes + asked.memoryBytes > capacity.memoryBytes) return "memory";
  return null;
}
