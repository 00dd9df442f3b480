import { RequestError } from "../../domain/errors.ts";
import { componentOf, parseGroup } from "../../domain/names/group.ts";
import { shownHealth } from "../../domain/stitch/health.ts";
import { fullId, parseStitchRef, splitFullId } from "../../domain/names/ids.ts";
import { type Liveness, livenessOf, type NodeRecord } from "../../domain/node/node.ts";
import { noStitch } from "../../domain/planning/observed.ts";
import type { ListedStitchResource, StitchResource } from "../../contract/stitch.ts";
import type { NodeResource } from "../../contract/node.ts";
import type { ListResource } from "../../contract/list.ts";
import type { GroupResource } from "../../contract/group.ts";
import type { ClusterResource } from "../../contract/cluster.ts";
import { STITCH_STATES, type StitchRecord, type StitchState, type StitchUsage } from "../../domain/stitch/stitch.ts";
import type { ChosenMaster } from "../../domain/master-mode.ts";
import { readAsOf } from "./as-of.ts";
import { readMasters } from "../../redis/master-list.ts";
import { readLeader } from "../../redis/leader-lease.ts";
import { readMasterMode } from "../../redis/master-mode.ts";
import type { RedisClient } from "../../redis/connection/client.ts";
import { countOpenJobs } from "../../redis/job/job-index.ts";
import type { Keys } from "../../redis/keys.ts";
import { countNodes, listNodeIds, readNodes, redisTimeMs } from "../../redis/node/node-record.ts";
import { listFullGroups, membersOf, readGroups } from "../../redis/stitch/groups.ts";
import { listFullIds } from "../../redis/node/stitch-list.ts";
import { listStitchesOfNode, readStitch, readStitches } from "../../redis/stitch/stitch-records.ts";
import { locateStitch } from "../../redis/stitch/pointers.ts";
import { readUsage } from "../../redis/stitch/stitch-usage.ts";
import { type OnUnreadable } from "../../redis/unreadable.ts";
import { VERSION } from "../../version.ts";
import { iso } from "../../contract/time.ts";
import { decodeCursor, encodeCursor } from "./cursor.ts";
import type { NodeFilter, Page, StitchFilter } from "../ports.ts";
import { allNodes } from "./observed-reader.ts";
import { SpecStore } from "./spec-store.ts";
import { search } from "./search.ts";

/** Nodes, or stitches, read in one round trip for a page. */
const READ_AT_ONCE = 1000;

const noStates = (): Record<StitchState, number> =>
  Object.fromEntries(STITCH_STATES.map((state) => [state, 0])) as Record<StitchState, number>;

const stringCursor = (text: string): string =>
  decodeCursor(text, (value) => (typeof value === "string" ? value : null));

export type StateReaderOptions = {
  readonly redis: RedisClient;
  readonly keys: Keys;
  /** The mode of this Master. */
  readonly chosen: ChosenMaster;
  readonly deadAfterMs: number;
  readonly nowMs: () => number;
  readonly onUnreadable: OnUnreadable;
};

/**
 * Answers requests for the state of the cluster, as Redis has it at that moment. A record that cannot be read is left out of
 * lists and reported; a request for it by id is an error. `asOf` uses the clock that event ids begin with: a client that
 * follows events from `asOf` misses none.
 */
export class StateReader {
  readonly #redis: RedisClient;
  readonly #keys: Keys;
  readonly #chosen: ChosenMaster;
  readonly #deadAfterMs: number;
  readonly #nowMs: () => number;
  readonly #onUnreadable: OnUnreadable;
  readonly #specs: SpecStore;

  constructor({ redis, keys, chosen, deadAfterMs, nowMs, onUnreadable }: StateReaderOptions) {
    this.#redis = redis;
    this.#keys = keys;
    this.#chosen = chosen;
    this.#deadAfterMs = deadAfterMs;
    this.#nowMs = nowMs;
    this.#onUnreadable = onUnreadable;
    this.#specs = new SpecStore(redis, keys, onUnreadable);
  }

  async cluster(): Promise<ClusterResource> {
    const [redis, keys] = [this.#redis, this.#keys];
    const read = () =>
      Promise.all([
        redisTimeMs(redis, keys.nodes).then((nowMs) => countNodes(redis, keys, nowMs, this.#deadAfterMs)),
        allNodes(redis, keys, this.#onUnreadable),
        countOpenJobs(redis, keys),
        redisTimeMs(redis, keys.masters).then((nowMs) => readMasters(redis, keys, nowMs)),
        readMasterMode(redis, keys),
        readLeader(redis, keys),
      ]);
    const [asOfMs, [nodes, records, openJobs, masters, chosen, election]] = await readAsOf(redis, keys, read);
    const { mode, preferred, lease } = chosen ?? this.#chosen;
    const stitches = noStates();
    for (const node of records) {
      const dead = this.#liveness(node) === "dead";
      for (const state of STITCH_STATES) stitches[dead ? "missing" : state] += node.status.states[state] ?? 0;
    }
    return {
      name: this.#keys.cluster,
      asOf: iso(asOfMs),
      nodes,
      stitches,
      openJobs,
      masters: masters.map(({ id, version, lastSeenAtMs }) => ({ id, version, lastSeenAt: iso(lastSeenAtMs) })),
      mode,
      preferred,
      leader: mode === "leader" ? (election?.holder ?? null) : null,
      election:
        mode !== "leader" || election === null ? null : { id: election.id, epoch: election.epoch, n: election.n },
      lease: mode === "leader" ? lease : null,
      frozen: false,
      version: VERSION,
    };
  }

  #liveness(node: NodeRecord | null | undefined): Liveness {
    return livenessOf(node, this.#deadAfterMs);
  }

  #nodeView(node: NodeRecord): NodeResource {
    const beatAt = iso(node.lastBeatAtMs);
    return {
      id: node.id,
      incarnation: node.incarnation,
      liveness: this.#liveness(node),
      eligibility: node.eligibility,
      zones: node.facts.zones,
      labels: node.facts.labels,
      capacity: node.facts.capacity,
      reserved: node.status.reserved,
      load: node.load,
      modules: node.facts.modules,
      version: node.facts.version,
      startedAt: iso(node.startedAtMs),
      lastHeartbeatAt: beatAt,
      observedAt: beatAt,
      stitchCount: node.status.stitchCount,
    };
  }

  async nodes(page: Page, filter: NodeFilter): Promise<ListResource<NodeResource>> {
    const isWanted = (node: NodeResource) =>
      (filter.liveness === undefined || node.liveness === filter.liveness) &&
      (filter.zone === undefined || node.zones.includes(filter.zone));
    const found = () =>
      search({
        limit: page.limit,
        atOnce: READ_AT_ONCE,
        after: page.cursor === null ? null : stringCursor(page.cursor),
        read: (after: string | null, count) => listNodeIds(this.#redis, this.#keys, after, count),
        view: async (ids) =>
          (await readNodes(this.#redis, this.#keys, ids, this.#onUnreadable))
            .map((node) => (node === null ? null : this.#nodeView(node)))
            .map((node) => (node !== null && isWanted(node) ? node : null)),
        nowMs: this.#nowMs,
      });
    const [asOfMs, { items, last }] = await readAsOf(this.#redis, this.#keys, found);
    return { items, nextCursor: last === null ? null : encodeCursor(last), asOf: iso(asOfMs) };
  }

  async node(id: string): Promise<NodeResource> {
    const [node] = await readNodes(this.#redis, this.#keys, [id]);
    if (node == null) throw new RequestError("not_found", `There is no node "${id}"; GET /v1/nodes lists them.`);
    return this.#nodeView(node);
  }

  /** The look-up of duty 4: the full id that a reference means. */
  async locate(text: string): Promise<string> {
    const ref = parseStitchRef(text);
    if (ref === null) throw new RequestError("invalid_request", `"${text}" is not a stitch's id.`);
    if (ref.node !== null) return fullId(ref.node, ref.stitch);
    const [only, ...others] = await locateStitch(this.#redis, this.#keys, ref.stitch);
    if (only === undefined) throw noStitch(text);
    if (others.length > 0)
      throw new RequestError("ambiguous_stitch", `Several nodes have a stitch "${text}"; use a full id.`, {
        candidates: [only, ...others],
      });
    return only;
  }

  async stitch(text: string): Promise<StitchResource> {
    const id = await this.locate(text);
    const [[view], { record, movedTo }] = await Promise.all([
      this.#stitchViews([id]),
      readStitch(this.#redis, this.#keys, id),
    ]);
    if (view == null || record === null) throw noStitch(text, movedTo);
    return { ...view, spec: await this.#specs.shown(view.node, view.specHash) };
  }

  /** Pages of stitches, in the order of the nodes' ids, and on each node in the order of the stitches' ids. */
  async stitches(page: Page, filter: StitchFilter): Promise<ListResource<ListedStitchResource>> {
    const isWanted = (stitch: ListedStitchResource) =>
      (filter.state === undefined || stitch.state === filter.state) &&
      (filter.health === undefined || stitch.health === filter.health);
    const found = async () => {
      const chosen = await this.#idsOf(filter);
      return search({
        limit: page.limit,
        atOnce: READ_AT_ONCE,
        after: page.cursor === null ? null : decodeCursor(page.cursor, fullIdOrNull),
        read: async (after: string | null, count) => {
          const from = after === null ? null : splitFullId(after);
          return chosen === null
            ? listFullIds(this.#redis, this.#keys, from, count, this.#onUnreadable)
            : nextOf(chosen, from, count);
        },
        view: async (ids) =>
          (await this.#stitchViews(ids)).map((stitch) => (stitch !== null && isWanted(stitch) ? stitch : null)),
        nowMs: this.#nowMs,
      });
    };
    const [asOfMs, { items, last }] = await readAsOf(this.#redis, this.#keys, found);
    return { items, nextCursor: last === null ? null : encodeCursor(last), asOf: iso(asOfMs) };
  }

  /** The stitches of the filter's group, or else of its node, in the order of the list; null: of the whole cluster. */
  async #idsOf({ group, node }: StitchFilter): Promise<StitchAddress[] | null> {
    if (group !== undefined) {
      const groups = await listFullGroups(this.#redis, this.#keys, group, this.#onUnreadable);
      const members = (await membersOf(this.#redis, this.#keys, groups, this.#onUnreadable)).flat().map(splitFullId);
      return members.filter((each) => node === undefined || each.node === node).sort(compareAddresses);
    }
    if (node === undefined) return null;
    const stitches = await listStitchesOfNode(this.#redis, this.#keys, node, this.#onUnreadable);
    return stitches.map((stitch) => ({ node, stitch }));
  }

  /** The view of each stitch; null if it cannot be read or is gone. */
  async #stitchViews(fullIds: readonly string[]): Promise<(ListedStitchResource | null)[]> {
    const nodeIds = [...new Set(fullIds.map((id) => splitFullId(id).node))];
    const [records, usage, nodes] = await Promise.all([
      readStitches(this.#redis, this.#keys, fullIds, this.#onUnreadable),
      readUsage(this.#redis, this.#keys, fullIds, this.#onUnreadable),
      readNodes(this.#redis, this.#keys, nodeIds, this.#onUnreadable),
    ]);
    const dead = new Set(nodeIds.filter((_, index) => this.#liveness(nodes[index]) === "dead"));
    return fullIds.map((id, index) => {
      const record = records[index];
      if (record == null) return null;
      const { node } = splitFullId(id);
      return stitchView(node, record, usage[index] ?? null, dead.has(node));
    });
  }

  async groups(page: Page): Promise<ListResource<GroupResource>> {
    const after = page.cursor === null ? null : stringCursor(page.cursor);
    const read = () => readGroups(this.#redis, this.#keys, null, this.#onUnreadable);
    const [asOfMs, { full, membersIn }] = await readAsOf(this.#redis, this.#keys, read);
    const components = [...new Set(full.map(componentOf))].sort();
    const names = components.filter((name) => after === null || name > after).slice(0, page.limit);
    const inPage = new Set(names);
    const members = await membersIn(full.filter((group) => inPage.has(componentOf(group))));
    const items = await this.#groupViews(members.flat(), componentOf);
    const last = names.length === page.limit ? names.at(-1) : undefined;
    return { items, nextCursor: last === undefined ? null : encodeCursor(last), asOf: iso(asOfMs) };
  }

  async group(name: string): Promise<GroupResource> {
    const full =
      parseGroup(name) === null ? [] : await listFullGroups(this.#redis, this.#keys, name, this.#onUnreadable);
    const members = await membersOf(this.#redis, this.#keys, full, this.#onUnreadable);
    const [group] = await this.#groupViews(members.flat(), () => name);
    if (group === undefined)
      throw new RequestError("not_found", `There is no group "${name}"; GET /v1/groups lists them.`);
    return group;
  }

  /** The groups of these stitches, by name, built from full groups. One round trip, whatever their number. */
  async #groupViews(members: readonly string[], nameOf: (fullGroup: string) => string): Promise<GroupResource[]> {
    const groups = new Map<string, { byState: Record<StitchState, number>; byVersion: Map<string, number> }>();
    for (const stitch of await this.#stitchViews(members)) {
      if (stitch === null) continue;
      const { group, state } = stitch;
      const name = nameOf(group);
      const counts = groups.get(name) ?? { byState: noStates(), byVersion: new Map<string, number>() };
      groups.set(name, counts);
      const version = group.split(".")[2] ?? "";
      counts.byState[state] += 1;
      counts.byVersion.set(version, (counts.byVersion.get(version) ?? 0) + 1);
    }
    return [...groups]
      .map(([group, { byState, byVersion }]) => ({
        group,
        versions: [...byVersion.keys()].sort(),
        // Even a version named `__proto__` becomes a field of its own.
        stitches: { byState, byVersion: Object.fromEntries(byVersion) },
      }))
      .sort((a, b) => (a.group < b.group ? -1 : 1));
  }
}

type StitchAddress = { readonly node: string; readonly stitch: string };

const compareAddresses = (a: StitchAddress, b: StitchAddress): number =>
  a.node === b.node ? (a.stitch < b.stitch ? -1 : a.stitch > b.stitch ? 1 : 0) : a.node < b.node ? -1 : 1;

/** The next `count` full ids of a sorted list. */
const nextOf = (sorted: readonly StitchAddress[], after: StitchAddress | null, count: number): string[] => {
  const from = after === null ? 0 : sorted.findIndex((each) => compareAddresses(each, after) > 0);
  return from === -1 ? [] : sorted.slice(from, from + count).map(({ node, stitch }) => fullId(node, stitch));
};

const fullIdOrNull = (value: unknown): string | null =>
  typeof value === "string" && parseStitchRef(value)?.node != null ? value : null;

function stitchView(
  node: string,
  record: StitchRecord,
  usage: StitchUsage | null,
  dead: boolean,
): ListedStitchResource {
  const { id, group, desired, revision, restarts, pid, lastExit, specHash, finished } = record;
  const { health, healthySinceMs } = shownHealth(record, dead);
  return {
    id,
    fullId: fullId(node, id),
    node,
    group,
    desired,
    // The last report of a dead node says nothing about the state now.
    state: dead ? "missing" : record.state,
    health,
    healthySince: healthySinceMs === null ? null : iso(healthySinceMs),
    revision,
    restarts,
    pid: dead ? null : pid,
    startedAt: record.startedAtMs === null ? null : iso(record.startedAtMs),
    lastExit: lastExit === null ? null : { code: lastExit.code, signal: lastExit.signal, at: iso(lastExit.atMs) },
    resources:
      dead || pid === null || usage === null ? null : { cpuPercent: usage.cpuPercent, memoryBytes: usage.memoryBytes },
    finished,
    specHash,
    observedAt: iso(record.observedAtMs),
  };
}
