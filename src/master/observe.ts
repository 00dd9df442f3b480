import type {
  Command,
  GroupCommand,
  RebalanceCommand,
  RestartGroupCommand,
  StopOldVersionsCommand,
} from "../domain/command.ts";
import { RequestError } from "../domain/errors.ts";
import { type Aftermath, means } from "../domain/follow-up.ts";
import { parseFullGroup } from "../domain/group.ts";
import { fullId, generatedIdBase, generatedStitchId, parseStitchRef, splitFullId } from "../domain/ids.ts";
import type { Replacement, StitchStep } from "../domain/job.ts";
import type { NodeRecord } from "../domain/node.ts";
import type { Observed } from "../domain/observed.ts";
import { countWell } from "../domain/commands/group-stop-old-versions.ts";
import { parseRevision } from "../domain/revision.ts";
import type { StitchRecord } from "../domain/stitch.ts";
import type { RedisClient } from "../redis/client.ts";
import { readTemplate } from "../redis/group-template.ts";
import type { Keys } from "../redis/keys.ts";
import { listNodeIds, readNodes, redisTimeMs } from "../redis/node-record.ts";
import { drawNumbers, nextNumber } from "../redis/sequences.ts";
import { listFullGroups, membersOf } from "../redis/groups.ts";
import {
  groupsByRoute,
  listStitchesOfNode,
  locateStitch,
  nodesWith,
  readRemoved,
  readStitch,
  readStitches,
  readUsage,
} from "../redis/stitch-records.ts";
import { type OnUnreadable, refuse } from "../redis/unreadable.ts";

const ALL = 1000;
/** Rows of numbers drawn one after the other, then with ever larger gaps, before giving up on finding ids that are free. */
const DRAWS_IN_A_ROW = 10;
const MOST_DRAWS = 30;
/** Tombstones that are followed to find where a stitch lives now. */
const MOST_MOVES = 5;

/** Every node of the cluster that can be read, a thousand at a time. For placement, which weighs them all. */
export async function allNodes(redis: RedisClient, keys: Keys, onUnreadable: OnUnreadable): Promise<NodeRecord[]> {
  const nodes: NodeRecord[] = [];
  for (let after: string | null = null; ; ) {
    const ids: string[] = await listNodeIds(redis, keys, after, ALL);
    nodes.push(...(await readNodes(redis, keys, ids, onUnreadable)).filter((node) => node !== null));
    after = ids.at(-1) ?? null;
    if (ids.length < ALL) return nodes;
  }
}

/**
 * Reads what planning commands needs, in as few round trips as it takes. A record that cannot be read is left out where
 * many are read, and told of; where the command names it, that is an error.
 */
export class Observer {
  readonly #redis: RedisClient;
  readonly #keys: Keys;
  readonly #deadAfterMs: number;
  readonly #onUnreadable: OnUnreadable;
  /** The Redis that has this key says what time it is. */
  readonly #clock: string;

  constructor(
    redis: RedisClient,
    keys: Keys,
    deadAfterMs: number,
    onUnreadable: OnUnreadable,
    clock: string = keys.events,
  ) {
    this.#redis = redis;
    this.#keys = keys;
    this.#deadAfterMs = deadAfterMs;
    this.#onUnreadable = onUnreadable;
    this.#clock = clock;
  }

  /** The same, with times by the clock of the Redis that has the job: there its deadline is compared. */
  forJob(id: string): Observer {
    return new Observer(this.#redis, this.#keys, this.#deadAfterMs, this.#onUnreadable, this.#keys.job(id));
  }

  /**
   * One round trip for a node or a full id, two for a bare id.
   * @param draw take the numbers of new stitches from the component's counter; without, it only looks where that stands (a dry run).
   */
  async observe(command: Command, draw: boolean): Promise<Observed> {
    switch (command.command) {
      case "node.ping":
      case "node.cordon":
      case "node.uncordon":
        return this.#with({}, { nodes: this.#nodes([command.target]) });
      case "node.drain": {
        const [observed] = await Promise.all([this.drain(command.target), this.#nodes([command.target])]);
        return observed;
      }
      case "stitch.create": {
        const component = parseFullGroup(command.target)?.component ?? "stitch";
        const take = draw ? command.count : 0;
        return this.#with(
          {},
          {
            nodes: this.#nodes(command.node === undefined ? null : [command.node]),
            ofGroup: this.#countByNode([command.target]),
            firstNumber: command.id !== undefined ? 1 : this.#freeNumbers(component, take),
            stitches: command.id === undefined ? [] : this.#existing(command.id, command.node),
          },
        );
      }
      case "stitch.clone":
      case "stitch.move":
        return this.#copied(command, draw);
      case "group.start":
      case "group.stop":
      case "group.remove":
      case "group.restart":
      case "group.stopOldVersions":
        return this.#members(command);
      case "group.rebalance":
        return this.#toSpread(command);
      case "group.scale": {
        const { stitches, records } = await this.#membersOf([command.target]);
        const component = parseFullGroup(command.target)?.component ?? "stitch";
        const take = draw ? Math.max(0, command.count - stitches.length) : 0;
        return this.#with(
          { stitches, records },
          {
            nodes: this.#nodes(null),
            ofGroup: this.#countByNode([command.target]),
            template: readTemplate(this.#redis, this.#keys, command.target, this.#onUnreadable),
            firstNumber: this.#freeNumbers(component, take),
          },
        );
      }
      default: {
        const meant = await this.#meant(command.target);
        const [first] = meant.stitches;
        const node = parseStitchRef(command.target)?.node ?? (first === undefined ? null : nodeOf(first));
        return this.#with(meant, { nodes: node === null ? [] : this.#nodes([node]) });
      }
    }
  }

  /** A node that is being drained: what is on it, and where that could go. */
  async drain(node: string): Promise<Observed> {
    const ids = (await listStitchesOfNode(this.#redis, this.#keys, node, this.#onUnreadable)).map((id) =>
      fullId(node, id),
    );
    return this.#movable(ids, await this.#records(ids), null);
  }

  /** How many stitches of a group that is to take over have been well for long enough. */
  async well(replacement: Replacement): Promise<number> {
    const { stitches, records } = await this.#membersOf([replacement.group]);
    return countWell(
      replacement,
      await this.#with(
        { stitches, records },
        { nodes: this.#nodes([...new Set(stitches.map(nodeOf))], this.#onUnreadable) },
      ),
    );
  }

  /** What the steps of an earlier job have left: the stitches that are there, their nodes, and what is left of the others. */
  async aftermath(steps: readonly StitchStep[]): Promise<Aftermath> {
    const ids = steps.map(({ stitch }) => stitch);
    const records = await this.#records(ids);
    // What is placed anew, is so beside what its group has by now.
    const groups = [...new Set(steps.flatMap((step) => (step.action === "create" ? [step.group] : [])))];
    const [observed, removed] = await Promise.all([
      this.#with(
        { stitches: [...records.keys()], records },
        { nodes: this.#nodes(null), ofGroup: this.#countByNode(groups) },
      ),
      Promise.all(ids.map((id) => readRemoved(this.#redis, this.#keys, id, this.#onUnreadable))),
    ]);
    const known = ids.flatMap((id, index) => {
      const record = removed[index];
      return record == null ? [] : [[id, record] as const];
    });
    return { ...observed, removed: new Map(known) };
  }

  /**
   * Where the stitches of a job's steps live that have moved since its revision, by the full ids they had then; of the others,
   * nothing. An older move is not followed, nor that of another stitch that has had the id since.
   */
  async movedSince(revision: number, steps: readonly StitchStep[]): Promise<Map<string, string>> {
    const moved = new Map<string, string>();
    let lookedFor: readonly StitchStep[] = steps;
    for (let moves = 0; moves < MOST_MOVES && lookedFor.length > 0; moves++) {
      const at = lookedFor.map(({ stitch }) => moved.get(stitch) ?? stitch);
      const [records, removed] = await Promise.all([
        readStitches(this.#redis, this.#keys, at, this.#onUnreadable),
        Promise.all(at.map((id) => readRemoved(this.#redis, this.#keys, id, this.#onUnreadable))),
      ]);
      lookedFor = lookedFor.filter((step, index) => {
        const [there, left] = [records[index], removed[index]];
        if (there != null && means(step, revision, there.born)) return false;
        if (left?.movedTo == null || !means(step, revision, left.born)) return false;
        if (parseRevision(left.revision).revision <= revision) return false;
        moved.set(step.stitch, left.movedTo);
        return true;
      });
    }
    return moved;
  }

  /** Takes the fields that must be read, all at once, beside those that are known. */
  async #with(
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
      ofGroup: new Map(),
      homes: new Map(),
      withData: new Set(),
      template: null,
      firstNumber: 1,
      ...known,
      ...Object.fromEntries(fields.map(([field], index) => [field, values[index]])),
    };
  }

  async #copied(command: Extract<Command, { command: "stitch.clone" | "stitch.move" }>, draw: boolean) {
    const meant = await this.#meant(command.target);
    const { stitches } = meant;
    const [only] = stitches;
    const records = only === undefined || stitches.length > 1 ? new Map() : await this.#records([only], refuse);
    const record: StitchRecord | undefined = only === undefined ? undefined : records.get(only);
    if (only === undefined || record === undefined) return this.#with(meant, {});
    const { toNode } = command;
    if (command.command === "stitch.move") {
      const from = nodeOf(only);
      const [observed] = await Promise.all([
        this.#movable([only], records, toNode === undefined ? null : [from, toNode]),
        this.#nodes([from]),
      ]);
      return observed;
    }
    const component = parseFullGroup(record.group)?.component ?? "stitch";
    return this.#with(
      { stitches, records },
      {
        nodes: this.#nodes(toNode === undefined ? null : [toNode]),
        ofGroup: this.#countByNode([record.group]),
        firstNumber: this.#freeNumbers(component, draw ? 1 : 0),
      },
    );
  }

  async #members(command: GroupCommand | RestartGroupCommand | StopOldVersionsCommand): Promise<Observed> {
    const isOfVersion = command.command === "group.stopOldVersions";
    const group = isOfVersion ? command.target.split(".").slice(0, 2).join(".") : command.target;
    const nodesOf = (ids: readonly string[]) => this.#nodes([...new Set(ids.map(nodeOf))].sort(), this.#onUnreadable);
    const needsRecords = isOfVersion || command.command === "group.restart";
    const groups = await listFullGroups(this.#redis, this.#keys, group);
    if (needsRecords) {
      const { stitches, records } = await this.#membersOf(groups);
      return this.#with({ stitches, records }, { nodes: nodesOf(stitches) });
    }
    const members = (await membersOf(this.#redis, this.#keys, groups)).flat();
    const ids = [...new Set(members.map(nodeOf))].sort();
    const [there, groupsNow] = await Promise.all([
      Promise.all(ids.map((node) => listStitchesOfNode(this.#redis, this.#keys, node, this.#onUnreadable))),
      groupsByRoute(this.#redis, this.#keys, members),
    ]);
    // Pointers may be stale: what has gone must not fail the job, and another that has the id since is not of the group. Nor
    // must a route that was lost hide a member that is there.
    const exist = new Set(there.flatMap((stitches, index) => stitches.map((each) => fullId(ids[index] ?? "", each))));
    const ofGroup = new Set(groups);
    const isOfGroup = (now: string | null | undefined) => now == null || ofGroup.has(now);
    const stitches = members.filter((id, index) => exist.has(id) && isOfGroup(groupsNow[index]));
    return this.#with({ stitches: stitches.sort() }, { nodes: nodesOf(members) });
  }

  async #toSpread({ target }: RebalanceCommand): Promise<Observed> {
    const { stitches, records } = await this.#membersOf(await listFullGroups(this.#redis, this.#keys, target));
    return this.#movable(stitches, records, null);
  }

  /** Stitches, and what decides where they could go. */
  #movable(
    stitches: readonly string[],
    records: ReadonlyMap<string, StitchRecord>,
    nodes: readonly string[] | null,
  ): Promise<Observed> {
    const groups = [...new Set([...records.values()].map(({ group }) => group))];
    return this.#with(
      { stitches, records },
      {
        nodes: this.#nodes(nodes),
        ofGroup: this.#countByNode(groups),
        homes: this.#homes(stitches),
        withData: this.#withData(stitches),
      },
    );
  }

  /** @param ids null for every node that can be read. */
  async #nodes(ids: readonly string[] | null, onUnreadable: OnUnreadable = refuse): Promise<NodeRecord[]> {
    if (ids === null) return allNodes(this.#redis, this.#keys, this.#onUnreadable);
    return (await readNodes(this.#redis, this.#keys, [...new Set(ids)], onUnreadable)).filter((node) => node !== null);
  }

  async #records(ids: readonly string[], onUnreadable = this.#onUnreadable): Promise<Map<string, StitchRecord>> {
    const records = await readStitches(this.#redis, this.#keys, ids, onUnreadable);
    return new Map(
      ids.flatMap((id, index) => {
        const record = records[index];
        return record == null ? [] : [[id, record] as const];
      }),
    );
  }

  /** The members of full groups that are there, sorted: pointers may be stale, or mean another that has the id since. */
  async #membersOf(groups: readonly string[]) {
    const members = (await membersOf(this.#redis, this.#keys, groups)).flat();
    const ofGroup = new Set(groups);
    const found = [...(await this.#records(members.sort()))].filter(([, { group }]) => ofGroup.has(group));
    return { stitches: found.map(([id]) => id), records: new Map(found) };
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

  /** The full ids that a reference to a stitch may mean; and where it is now, if it is a full id and that has moved. */
  async #meant(target: string): Promise<Pick<Observed, "stitches" | "movedTo">> {
    const ref = parseStitchRef(target);
    if (ref === null) throw new Error("an unchecked command reached the planner");
    const { node, stitch } = ref;
    if (node === null) return { stitches: await locateStitch(this.#redis, this.#keys, stitch), movedTo: null };
    const id = fullId(node, stitch);
    const { record, movedTo } = await readStitch(this.#redis, this.#keys, id);
    return { stitches: record === null ? [] : [id], movedTo };
  }

  /** How many stitches of full groups each node has, by their pointers. */
  async #countByNode(groups: readonly string[]): Promise<Map<string, Map<string, number>>> {
    const members = await membersOf(this.#redis, this.#keys, groups);
    return new Map(
      groups.map((group, index) => {
        const counts = new Map<string, number>();
        for (const member of members[index] ?? []) counts.set(nodeOf(member), (counts.get(nodeOf(member)) ?? 0) + 1);
        return [group, counts];
      }),
    );
  }

  /** Draws `take` numbers in a row for generated ids that nobody has, and tells the first; with 0 it only looks where the counter stands. */
  async #freeNumbers(component: string, take: number): Promise<number> {
    const idBase = generatedIdBase(component);
    if (take === 0) return nextNumber(this.#redis, this.#keys, idBase);
    for (let draw = 0; draw < MOST_DRAWS; draw++) {
      const passedOver = draw < DRAWS_IN_A_ROW ? 0 : 2 ** (draw - DRAWS_IN_A_ROW);
      const drawn = await drawNumbers(this.#redis, this.#keys, idBase, passedOver + take);
      const first = drawn + passedOver;
      const ids = Array.from({ length: take }, (_, index) => generatedStitchId(idBase, first + index));
      // Somebody may have chosen such an id by hand, or the counter was lost.
      const taken = await Promise.all(ids.map((id) => this.#redis.exists(this.#keys.route(id))));
      if (taken.every((exists) => exists === 0)) return first;
    }
    throw new RequestError(
      "stitch_exists",
      `Ids that begin with "${idBase}-" are taken by hand; give the stitch an id.`,
    );
  }

  /** The full ids under which a stitch exists: on one node, or on any. */
  async #existing(stitch: string, node: string | undefined): Promise<readonly string[]> {
    return (await this.#meant(node === undefined ? stitch : fullId(node, stitch))).stitches;
  }
}

const nodeOf = (id: string): string => splitFullId(id).node;
