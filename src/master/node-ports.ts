import { fullId, splitFullId } from "../domain/names/ids.ts";
import { readAssignments } from "../redis/stitch/assignments.ts";
import { missingSpecs, offerSpecs, readSpecTexts } from "../redis/stitch/specs.ts";
import { emitEvents } from "../redis/events.ts";
import { claim, recordOutcomes } from "../redis/job/outcomes.ts";
import { ledBy } from "../redis/job/task-digest.ts";
import { beatNode, leaveNode, listNode, registerNode } from "../redis/node/node-lease.ts";
import { readEligibility } from "../redis/node/node-orders.ts";
import { raiseRevision } from "../redis/revision.ts";
import {
  forgetRemoved,
  openStitchHashes,
  publishStitches,
  readOwnStitches,
  readTraces,
} from "../redis/stitch/stitch-records.ts";
import { assertPointers } from "../redis/stitch/stitch-records.ts";
import { publishUsage } from "../redis/stitch/stitch-usage.ts";
import { readTombstones } from "../redis/stitch/tombstones.ts";
import type { NodePorts } from "./ports.ts";
import { routesOf, type RoutesOptions } from "./routing/routes.ts";

export type NodePortsOptions = RoutesOptions & {
  /** The id of the node. */
  readonly node: string;
};

/**
 * The ports that a node's worker uses, on its own connections; the same in every mode: all Masters and all nodes find each other
 * through the same records. This call sends nothing.
 */
export function openNodePorts(options: NodePortsOptions): NodePorts {
  const { redis, keys, node } = options;
  return {
    publishing: {
      register: (as) => registerNode(redis, keys, node, as),
      beat: (as) => beatNode(redis, keys, node, as),
      leave: async (as) => {
        if (await leaveNode(redis, keys, node, as)) await emitEvents(redis, keys, [{ type: "node.left", node }]);
      },
      relist: () => listNode(redis, keys, node),
      open: () => openStitchHashes(redis, keys, node),
      publish: (changes, status, receives, as) => publishStitches(redis, keys, node, changes, status, receives, as),
      assertPointers: (stitches, receives) => assertPointers(redis, keys, node, stitches, receives),
      publishUsage: (incarnation, usage, keptMs) => publishUsage(redis, keys, node, incarnation, usage, keptMs),
      published: (onUnreadable) => readOwnStitches(redis, keys, node, onUnreadable),
      forget: (stitches) => forgetRemoved(redis, keys, node, stitches),
      missingSpecs: (hashes) => missingSpecs(redis, keys, hashes),
      offerSpecs: (texts) => offerSpecs(redis, keys, node, texts),
      emit: (events) => emitEvents(redis, keys, events),
    },
    orders: {
      claim: async (job, task, incarnation, election) =>
        claim(redis, keys, job, node, task, incarnation, await ledBy(task, election)),
      tell: async (job, task, incarnation, outcomes, ended, election) => {
        const led = await ledBy(task, election);
        return recordOutcomes(redis, keys, job, node, task, incarnation, outcomes, ended, led?.digest);
      },
      spec: async (hash, onUnreadable) => (await readSpecTexts(redis, keys, [hash], onUnreadable))[0] ?? null,
      assigned: async (stitches, onUnreadable) => {
        const ids = stitches.map((stitch) => fullId(node, stitch));
        const found = await readAssignments(redis, keys, ids, onUnreadable);
        return new Map([...found].map(([id, each]) => [splitFullId(id).stitch, each]));
      },
      eligibility: () => readEligibility(redis, keys, node),
      tombstones: (onUnreadable) => readTombstones(redis, keys, node, onUnreadable),
      traces: (id) => readTraces(redis, keys, id),
      raiseRevision: (revision) => raiseRevision(redis, keys, revision),
    },
    routing: routesOf(options),
  };
}
