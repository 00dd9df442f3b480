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
 * Adopts a node's stitches: puts the specs that the node offers into the store, and assigns to the node those of its stitches
 * that have no assignment. What Masters have assigned stays as it is.
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
  // An existing assignment stays as it is, whatever the node's record says.
  const hashOf = (each: StitchRecord) => assignedTo(each)?.specHash ?? each.specHash;
  const known = await storeOffered(options, node, new Set(stitches.map(hashOf)));
  const adopted = stitches.filter((each) => assignedTo(each) === undefined && known.has(hashOf(each)));
  await assignStitches(redis, keys, node, new Map(adopted.map((each) => [each.id, assignmentOf(each)])));
  const unknown = stitches.filter((each) => !known.has(hashOf(each)));
  return { node, adopted: adopted.map(idOf).sort(), unknown: unknown.map(idOf).sort() };
}

/** `placed`: the create's revision is unknown; the last revision that the node applied replaces it, as it is not older. */
const assignmentOf = ({ specHash, group, placement, born, revision }: StitchRecord): Assignment => ({
  specHash,
  group,
  placement,
  born,
  placed: revision,
});

/** Stores the offered specs that the store lacks. @returns the hashes of the wanted specs that the store has afterwards. */
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
