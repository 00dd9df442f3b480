import type { AdoptedResource } from "../contract/node.ts";
import type { Assignment } from "../domain/assignment.ts";
import { RequestError } from "../domain/errors.ts";
import { fullId } from "../domain/ids.ts";
import type { StoredSpec } from "../domain/spec.ts";
import type { StitchRecord } from "../domain/stitch.ts";
import { assignStitches, readAssignments } from "../redis/assignments.ts";
import type { RedisClient } from "../redis/client.ts";
import type { Keys } from "../redis/keys.ts";
import { readNodes } from "../redis/node-record.ts";
import { dropOffers, readOffers, storeSpec } from "../redis/specs.ts";
import { readOwnStitches } from "../redis/stitch-records.ts";
import type { OnUnreadable } from "../redis/unreadable.ts";
import type { SpecStore } from "./spec-store.ts";

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
  const ids = stitches.map(({ id }) => fullId(node, id));
  const assigned = await readAssignments(redis, keys, ids, onUnreadable);
  const isAssigned = ({ id, born }: StitchRecord) =>
    assigned.get(fullId(node, id))?.some((each) => each.born === born) === true;
  const wanted = new Set(stitches.map(({ specHash }) => specHash));
  for (const { specHash } of [...assigned.values()].flat()) wanted.add(specHash);
  const known = await storeOffered(options, node, wanted);
  const strangers = stitches.filter((each) => !isAssigned(each));
  const adopted = strangers.filter(({ specHash }) => known.has(specHash));
  await assignStitches(redis, keys, node, new Map(adopted.map((each) => [each.id, assignmentOf(each)])));
  const idsOf = (some: readonly StitchRecord[]) => some.map(({ id }) => fullId(node, id)).sort();
  return { node, adopted: idsOf(adopted), unknown: idsOf(stitches.filter(({ specHash }) => !known.has(specHash))) };
}

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
  const [stored, offers] = await Promise.all([specs.read(wanted), readOffers(redis, keys, node)]);
  const missing = [...wanted].filter((hash) => !stored.has(hash));
  const checked = await Promise.all(missing.map((hash) => specs.checked(hash, offers.get(hash) ?? null)));
  const offered = checked.filter((each): each is StoredSpec => each !== null);
  await Promise.all(offered.map((each) => storeSpec(redis, keys, each)));
  const known = new Set([...stored.keys(), ...offered.map(({ specHash }) => specHash)]);
  await dropOffers(
    redis,
    keys,
    node,
    [...offers.keys()].filter((hash) => known.has(hash)),
  );
  return known;
}
