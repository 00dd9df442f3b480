import type { AdoptedResource } from "../../contract/node.ts";
import type { Assignment } from "../../domain/job/assignment.ts";
import { RequestError } from "../../domain/errors.ts";
import { fullId } from "../../domain/names/ids.ts";
import type { StoredSpec } from "../../domain/stitch/spec.ts";
import type { StitchRecord } from "../../domain/stitch/stitch.ts";
import { assignStitches, readAssignments } from "../../redis/stitch/assignments.ts";
import type { RedisClient } from "../../redis/connection/client.ts";
import type { Keys } from "../../redis/keys.ts";
import { readNodes } from "../../redis/node/node-record.ts";
import { dropOffers, readOffers, storeSpec } from "../../redis/stitch/specs.ts";
import { readOwnStitches } from "../../redis/stitch/stitch-records.ts";
import type { OnUnreadable } from "../../redis/unreadable.ts";
import type { SpecStore } from "../state/spec-store.ts";

export type AdoptNodeOptions = {
  readonly redis: RedisClient;
  readonly keys: Keys;
  readonly specs: SpecStore;
  readonly onUnreadable: OnUnreadable;
};

/**
 * Takes a node's word for its stitches: puts the specs that it offers into the store, and assigns to it what it has and nothing
 * is assigned of. What Masters have assigned stays as it is.
 * @throws RequestError `not_found`
 */
export async function adoptNode(options: AdoptNodeOptions, node: string): Promise<AdoptedResource> {
  const { redis, keys, onUnreadable } = options;
  const [[record], { stitches }] = await Promise.all([
    readNodes(redis, keys, [node]),
    readOwnStitches(redis, keys, node, onUnreadable),
  ]);
  if (record == null) throw new RequestError("not_found", `There is no node "${node}"; GET /v1/nodes lists them.`);
  const idOf = ({ id }: StitchRecord) => fullId(node, id);
  const assignments = await readAssignments(redis, keys, stitches.map(idOf), onUnreadable);
  const assignedTo = (each: StitchRecord) =>
    assignments.get(idOf(each))?.find(({ born, isOver }) => born === each.born && !isOver);
  // What is assigned stays as it is, whatever the node says of it.
  const hashOf = (each: StitchRecord) => assignedTo(each)?.specHash ?? each.specHash;
  const known = await storeOffered(options, node, new Set(stitches.map(hashOf)));
  const adopted = stitches.filter((each) => assignedTo(each) === undefined && known.has(hashOf(each)));
  await assignStitches(redis, keys, node, new Map(adopted.map((each) => [each.id, assignmentOf(each)])));
  const unknown = stitches.filter((each) => !known.has(hashOf(each)));
  return { node, adopted: adopted.map(idOf).sort(), unknown: unknown.map(idOf).sort() };
}

/** `placed`: nobody knows the create; what the node applied last is not before it. */
const assignmentOf = ({ specHash, group, placement, born, revision }: StitchRecord): Assignment => ({
  specHash,
  group,
  placement,
  born,
  placed: revision,
});

/** Stores what the node offers of those specs that the store has not. @returns the hashes of those that it has by then. */
async function storeOffered(
  { redis, keys, specs }: AdoptNodeOptions,
  node: string,
  wanted: ReadonlySet<string>,
): Promise<Set<string>> {
  const stored = await specs.read(wanted);
  const missing = [...wanted].filter((hash) => !stored.has(hash));
  const offers = await readOffers(redis, keys, node, missing);
  const checked = await Promise.all(missing.map((hash) => specs.checked(hash, offers.get(hash) ?? null)));
  const offered = checked.filter((each): each is StoredSpec => each !== null);
  await Promise.all(offered.map((each) => storeSpec(redis, keys, each)));
  const known = new Set([...stored.keys(), ...offered.map(({ specHash }) => specHash)]);
  await dropOffers(redis, keys, node, [...known]);
  return known;
}
