import type { Assigned, Assignment, KeptAssignment } from "../../domain/job/assignment.ts";
import { RequestError } from "../../domain/errors.ts";
import { parseFullGroup } from "../../domain/names/group.ts";
import { fullId, generatedIdBase, parseStitchRef, splitFullId } from "../../domain/names/ids.ts";
import type { NodeRecord } from "../../domain/node/node.ts";
import type { Observed } from "../../domain/planning/observed.ts";
import type { StitchRecord } from "../../domain/stitch/stitch.ts";
import type { RedisClient } from "../../redis/connection/client.ts";
import { isCluster } from "../../redis/connection/connection.ts";
import { readAssignments, readAssignmentsOf } from "../../redis/stitch/assignments.ts";
import type { Keys } from "../../redis/keys.ts";
import { listNodeIds, readNodes, redisTimeMs } from "../../redis/node/node-record.ts";
import { drawFreeNumbers, nextNumber } from "../../redis/stitch/sequences.ts";
import { membersOf, readGroups } from "../../redis/stitch/groups.ts";
import { readStitch, readStitches, readStitchesOfNode } from "../../redis/stitch/stitch-records.ts";
import { locateStitch, nodesWith } from "../../redis/stitch/pointers.ts";
import { readUsage } from "../../redis/stitch/stitch-usage.ts";
import { type OnUnreadable, refuse, type UnreadableRecord } from "../../redis/unreadable.ts";
import { SpecStore } from "./spec-store.ts";

/** Nodes whose ids are read in one round trip, and then their records in another. In a Cluster, each record is three commands. */
const NODES_AT_ONCE = { single: 10_000, cluster: 1000 };

/** Every node of the cluster that can be read. For placement, which compares all of them. Two round trips for fewer than 10,000 nodes. */
export async function allNodes(redis: RedisClient, keys: Keys, onUnreadable: OnUnreadable): Promise<NodeRecord[]> {
  const atOnce = isCluster(redis) ? NODES_AT_ONCE.cluster : NODES_AT_ONCE.single;
  const nodes: NodeRecord[] = [];
  for (let after: string | null = null; ; ) {
    const ids: string[] = await listNodeIds(redis, keys, after, atOnce);
    nodes.push(...(await readNodes(redis, keys, ids, onUnreadable)).filter((node) => node !== null));
    after = ids.at(-1) ?? null;
    if (ids.length < atOnce) return nodes;
  }
}

export type ObservedReaderOptions = {
  readonly redis: RedisClient;
  readonly keys: Keys;
  readonly deadAfterMs: number;
  readonly onUnreadable: OnUnreadable;
  /** The Redis that has this key gives the time. Default: the one that has the events. */
  readonly clock?: string;
};

/** Reads the parts of an `Observed` for a plan, each with as few round trips as possible. */
export class ObservedReader {
  readonly specs: SpecStore;
  readonly #redis: RedisClient;
  readonly #keys: Keys;
  readonly #deadAfterMs: number;
  readonly #onUnreadable: OnUnreadable;
  readonly #clock: string;

  constructor({ redis, keys, deadAfterMs, onUnreadable, clock = keys.events }: ObservedReaderOptions) {
    this.specs = new SpecStore(redis, keys, onUnreadable);
    this.#redis = redis;
    this.#keys = keys;
    this.#deadAfterMs = deadAfterMs;
    this.#onUnreadable = onUnreadable;
    this.#clock = clock;
  }

  /** Combines the known fields with those that must be read, which are read all at once. */
  async observed(
    known: Partial<Observed>,
    read: { readonly [Field in keyof Observed]?: Observed[Field] | Promise<Observed[Field]> },
  ): Promise<Observed> {
    const fields = Object.entries(read);
    const [nowMs, ...values] = await Promise.all([
      redisTimeMs(this.#redis, this.#clock),
      ...fields.map(([, value]) => value),
    ]);
    return {
      nowMs,
      deadAfterMs: this.#deadAfterMs,
      nodes: [],
      stitches: [],
      movedTo: null,
      records: new Map(),
      assigned: new Map(),
      ofGroup: new Map(),
      homes: new Map(),
      withData: new Set(),
      template: null,
      toStore: null,
      firstNumber: 1,
      ...known,
      ...Object.fromEntries(fields.map(([field], index) => [field, values[index]])),
    };
  }

  /** The stitches that a reference means, and the nodes of those that it may mean. */
  async meantWithNodes(ref: string): Promise<Meant & { readonly nodes: readonly NodeRecord[] }> {
    const asked = await this.#asked(ref);
    const unreadable: UnreadableRecord[] = [];
    const [known, nodes] = await Promise.all([
      this.#meant(asked),
      this.nodes(asked.ids.map(nodeOf), (error) => unreadable.push(error)),
    ]);
    refuseUnreadable(known, unreadable);
    return { ...known, nodes };
  }

  /** The stitches that a reference means; if it is exactly one and it exists, also its record and assignment. */
  async meantWithRecord(ref: string) {
    const asked = await this.#asked(ref);
    const unreadable: UnreadableRecord[] = [];
    const [known, { records, assignments }] = await Promise.all([
      this.#meant(asked),
      this.recordsWithAssignments(asked.ids, (error) => unreadable.push(error)),
    ]);
    refuseUnreadable(known, unreadable);
    const [only, ...others] = known.stitches;
    if (only === undefined || others.length > 0 || !records.has(only)) return { known, seen: null };
    const own = <T>(all: ReadonlyMap<string, T>) => new Map([...all].filter(([id]) => id === only));
    return { known, seen: { records: own(records), assignments: own(assignments) } };
  }

  /** Stitches, and what the choice of a node for them depends on. */
  movable(
    stitches: readonly string[],
    { records, assignments }: { readonly records: Observed["records"]; readonly assignments: Assignments },
    nodes: Promise<readonly NodeRecord[]>,
  ): Promise<Observed> {
    const groups = [...new Set([...assignments.values()].map(({ group }) => group))];
    return this.observed(
      { stitches, records },
      {
        nodes,
        assigned: this.withSpecs(assignments),
        ofGroup: this.countByNode(groups),
        homes: this.#homes(stitches),
        withData: this.#withData(stitches),
      },
    );
  }

  /** The stitches of a node by full id, with their assignments. */
  async stitchesOn(node: string) {
    const [found, assignments] = await Promise.all([
      readStitchesOfNode(this.#redis, this.#keys, node, this.#onUnreadable),
      readAssignmentsOf(this.#redis, this.#keys, node, this.#onUnreadable),
    ]);
    const records = new Map(found.map((record) => [fullId(node, record.id), record] as const));
    return { records, assignments: assignmentsOf(records, assignments) };
  }

  async recordsWithAssignments(ids: readonly string[], onUnreadable = this.#onUnreadable) {
    const [records, assignments] = await Promise.all([
      this.records(ids, onUnreadable),
      readAssignments(this.#redis, this.#keys, ids, onUnreadable),
    ]);
    return { records, assignments: assignmentsOf(records, assignments) };
  }

  /** The assignments whose specs are known, with their specs. */
  async withSpecs(assignments: Assignments): Promise<Map<string, Assigned>> {
    const specs = await this.specs.read([...assignments.values()].map(({ specHash }) => specHash));
    return new Map(
      [...assignments].flatMap(([id, each]) => {
        const spec = specs.get(each.specHash);
        return spec === undefined ? [] : [[id, { ...each, spec }] as const];
      }),
    );
  }

  /** @param ids null for every node that can be read. */
  async nodes(ids: readonly string[] | null, onUnreadable: OnUnreadable = refuse): Promise<NodeRecord[]> {
    if (ids === null) return allNodes(this.#redis, this.#keys, this.#onUnreadable);
    return (await readNodes(this.#redis, this.#keys, [...new Set(ids)], onUnreadable)).filter((node) => node !== null);
  }

  async records(ids: readonly string[], onUnreadable = this.#onUnreadable): Promise<Map<string, StitchRecord>> {
    const records = await readStitches(this.#redis, this.#keys, ids, onUnreadable);
    return new Map(
      ids.flatMap((id, index) => {
        const record = records[index];
        return record == null ? [] : [[id, record] as const];
      }),
    );
  }

  /** The nodes of the stitches, without those that cannot be read. */
  nodesOf(stitches: readonly string[]): Promise<NodeRecord[]> {
    return this.nodes([...new Set(stitches.map(nodeOf))].sort(), this.#onUnreadable);
  }

  /**
   * The full groups inside a group, and the full ids in them, sorted, by pointers. A pointer may be stale, or lead to another stitch that
   * now has the id.
   */
  async pointersInside(group: string): Promise<{ groups: readonly string[]; members: string[] }> {
    const { full, membersIn } = await readGroups(this.#redis, this.#keys, group);
    return { groups: full, members: (await membersIn(full)).flat().sort() };
  }

  /** The existing members of full groups among the full ids that `pointersInside` has returned. */
  async membersAmong(groups: readonly string[], members: readonly string[]) {
    return onlyOf(groups, await this.records(members));
  }

  /** As `membersAmong`, with their assignments. */
  async membersWithAssignments(groups: readonly string[], members: readonly string[]) {
    const seen = await this.recordsWithAssignments(members);
    const { stitches, records } = onlyOf(groups, seen.records);
    return { stitches, records, assignments: new Map([...seen.assignments].filter(([id]) => records.has(id))) };
  }

  async #homes(ids: readonly string[]): Promise<Map<string, ReadonlySet<string>>> {
    const bare = [...new Set(ids.map((id) => splitFullId(id).stitch))];
    const nodes = await Promise.all(bare.map((id) => nodesWith(this.#redis, this.#keys, id)));
    return new Map(bare.map((id, index) => [id, new Set(nodes[index])]));
  }

  async #withData(ids: readonly string[]): Promise<Set<string>> {
    const usage = await readUsage(this.#redis, this.#keys, ids, this.#onUnreadable);
    return new Set(ids.filter((_, index) => usage[index]?.hasData === true));
  }

  /** The full ids that a reference to a stitch may mean. */
  async meant(ref: string): Promise<Meant> {
    return this.#meant(await this.#asked(ref));
  }

  /** The full ids that a reference may mean. For a full id nothing is read. */
  async #asked(ref: string): Promise<Asked> {
    const parsed = parseStitchRef(ref);
    if (parsed === null) throw new Error("an unchecked command reached the planner");
    const { node, stitch } = parsed;
    if (node !== null) return { isBare: false, ids: [fullId(node, stitch)] };
    return { isBare: true, ids: await locateStitch(this.#redis, this.#keys, stitch) };
  }

  async #meant({ isBare, ids }: Asked): Promise<Meant> {
    const [id] = ids;
    if (isBare || id === undefined) return { stitches: ids, movedTo: null };
    const { record, movedTo } = await readStitch(this.#redis, this.#keys, id);
    return { stitches: record === null ? [] : [id], movedTo };
  }

  /** How many stitches of each full group each node has, by their pointers. */
  async countByNode(groups: readonly string[]): Promise<Map<string, Map<string, number>>> {
    const members = await membersOf(this.#redis, this.#keys, groups);
    return new Map(groups.map((group, index) => [group, perNode(members[index] ?? [])]));
  }

  /**
   * Draws `take` numbers in a row for generated ids of a full group, so that all of these ids are free. One round trip, on a single
   * Redis.
   * @returns the first of the numbers. If `take` is 0, it only reads the next number of the counter.
   */
  async freeNumbers(group: string, take: number): Promise<number> {
    const component = parseFullGroup(group)?.component ?? "stitch";
    const idBase = generatedIdBase(component);
    const first = await (take === 0
      ? nextNumber(this.#redis, this.#keys, idBase)
      : drawFreeNumbers(this.#redis, this.#keys, idBase, take));
    if (first !== null) return first;
    throw new RequestError(
      "stitch_exists",
      `Ids that begin with "${idBase}-" are taken by hand; give the stitch an id.`,
    );
  }

  /** The full ids under which a stitch exists: on one node, or on any. */
  async existing(stitch: string, node: string | undefined): Promise<readonly string[]> {
    return (await this.meant(node === undefined ? stitch : fullId(node, stitch))).stitches;
  }
}

/** @throws UnreadableRecord what cannot be read of the stitch that is meant. Of others that have its bare id, nothing is needed. */
function refuseUnreadable({ stitches }: Meant, errors: readonly UnreadableRecord[]): void {
  const [only, ...others] = stitches;
  if (only === undefined || others.length > 0) return;
  const error = errors.find(({ id }) => id === only || id === nodeOf(only));
  if (error !== undefined) throw error;
}

/** What a reference to a stitch may mean. A bare id was looked for already. */
type Asked = { readonly isBare: boolean; readonly ids: readonly string[] };

/** The stitches that a reference means. `movedTo`: where the stitch of a full id is now, if it has moved. */
type Meant = Pick<Observed, "stitches" | "movedTo">;

/** Keeps the stitches of the groups, by the group in their records. */
function onlyOf(groups: readonly string[], all: ReadonlyMap<string, StitchRecord>) {
  const ofGroup = new Set(groups);
  const records = new Map([...all].filter(([, { group }]) => ofGroup.has(group)));
  return { stitches: [...records.keys()], records };
}

/** By full id. */
export type Assignments = ReadonlyMap<string, Assignment>;

/** Each stitch's assignment with this `isOver`. `born` tells it from one of another stitch that has had the same id. */
export const assignmentsOf = (
  stitches: ReadonlyMap<string, { readonly born: string }>,
  assignments: ReadonlyMap<string, readonly KeptAssignment[]>,
  isOver = false,
): Map<string, Assignment> =>
  new Map(
    [...stitches].flatMap(([id, { born }]) => {
      const found = assignments.get(id)?.find((each) => each.born === born && each.isOver === isOver);
      return found === undefined ? [] : [[id, found] as const];
    }),
  );

/** Work that has begun before anybody awaits it. Its error is thrown where it is awaited. */
export function begun<T>(work: Promise<T>): Promise<T> {
  work.catch(() => undefined);
  return work;
}

/** How many of the full ids each node has. */
export function perNode(ids: readonly string[]): Map<string, number> {
  const counts = new Map<string, number>();
  for (const id of ids) counts.set(nodeOf(id), (counts.get(nodeOf(id)) ?? 0) + 1);
  return counts;
}

export const nodeOf = (id: string): string => splitFullId(id).node;
