import * as z from "zod";
import { ELIGIBILITIES, LIVENESSES, nodeLoad } from "../domain/node/node.ts";
import { capacityResource } from "./capacity.ts";
import type { Resource } from "./resource.ts";
import { time } from "./time.ts";

/** A node; a dead or left one with its last known facts. */
export const nodeResource = z.object({
  id: z.string(),
  /** Raised at each start under the same id. */
  incarnation: z.int(),
  liveness: z.enum(LIVENESSES),
  eligibility: z.enum(ELIGIBILITIES),
  zones: z.array(z.string()),
  labels: z.record(z.string(), z.string()),
  capacity: capacityResource,
  reserved: capacityResource,
  /** Measured; null until the first measurement. */
  load: nodeLoad.nullable(),
  modules: z.array(z.string()),
  version: z.string(),
  startedAt: time,
  lastHeartbeatAt: time,
  /** When the node last published this. */
  observedAt: time,
  stitchCount: z.int(),
});
export type NodeResource = Resource<typeof nodeResource>;

/** What became of a node's stitches when it was adopted, by full id. */
export const adoptedResource = z.object({
  node: z.string(),
  /** The stitches that are assigned from now on, and were not before. */
  adopted: z.array(z.string()),
  /** All stitches whose spec is neither stored nor offered by the node, also those that were already assigned. */
  unknown: z.array(z.string()),
});
export type AdoptedResource = Resource<typeof adoptedResource>;
