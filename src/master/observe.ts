import type { Command } from "../domain/command.ts";
import { RequestError } from "../domain/errors.ts";
import { parseFullGroup } from "../domain/group.ts";
import { fullId, generatedIdBase, generatedStitchId, parseStitchRef, splitFullId } from "../domain/ids.ts";
import type { NodeRecord } from "../domain/node.ts";
import type { Observed } from "../domain/plan.ts";
import type { RedisClient } from "../redis/client.ts";
import type { Keys } from "../redis/keys.ts";
import { listNodeIds, readNodes, redisTimeMs } from "../redis/node-record.ts";
import { listFullGroups, membersOf } from "../redis/groups.ts";
import { listStitchesOfNode, locateStitch, readStitches } from "../redis/stitch-records.ts";

const ALL = 1000;
/** Rows of numbers drawn before giving up on finding ids that are free. */
const MAX_DRAWS = 100;

/** Every node of the cluster, a thousand at a time. For placement, which weighs them all. */
export async function allNodes(redis: RedisClient, keys: Keys): Promise<NodeRecord[]> {
  const nodes: NodeRecord[] = [];
  for (let after: string | null = null; ; ) {
    const ids: string[] = await listNodeIds(redis, keys, after, ALL);
    nodes.push(...(await readNodes(redis, keys, ids)).filter((node) => node !== null));
    after = ids.at(-1) ?? null;
    if (ids.length < ALL) return nodes;
  }
}

const present = (nodes: readonly (NodeRecord | null)[]): NodeRecord[] => nodes.filter((node) => node !== null);

/**
 * Reads what planning a command needs, in as few round trips as it takes: one for a node or a full id, two for a bare id.
 * @param take how many new stitch ids to draw from the component's counter; 0 only looks where it stands (a dry run).
 */
export async function observe(
  redis: RedisClient,
  keys: Keys,
  command: Command,
  deadAfterMs: number,
  take: number,
): Promise<Observed> {
  const base = {
    deadAfterMs,
    ofGroup: new Map<string, number>(),
    firstNumber: 1,
    stitches: [] as string[],
    source: null,
  };
  switch (command.command) {
    case "node.ping":
    case "node.cordon":
    case "node.uncordon": {
      const [nowMs, nodes] = await Promise.all([redisTimeMs(redis), readNodes(redis, keys, [command.target])]);
      return { ...base, nowMs, nodes: present(nodes) };
    }
    case "stitch.create": {
      const component = parseFullGroup(command.target)?.component ?? "stitch";
      const [nowMs, nodes, ofGroup, firstNumber, stitches] = await Promise.all([
        redisTimeMs(redis),
        command.node === undefined ? allNodes(redis, keys) : readNodes(redis, keys, [command.node]).then(present),
        countByNode(redis, keys, command.target),
        command.id !== undefined ? 1 : freeNumbers(redis, keys, generatedIdBase(component), take),
        command.id === undefined ? [] : existing(redis, keys, command.id, command.node),
      ]);
      return { ...base, nowMs, nodes, ofGroup, stitches, firstNumber };
    }
    case "stitch.clone": {
      const found = await meant(redis, keys, command.target);
      const [only] = found;
      const [source] = only === undefined || found.length > 1 ? [] : await readStitches(redis, keys, [only]);
      if (source == null) return { ...base, nowMs: await redisTimeMs(redis), nodes: [], stitches: found };
      const component = parseFullGroup(source.group)?.component ?? "stitch";
      const [nowMs, nodes, ofGroup, firstNumber] = await Promise.all([
        redisTimeMs(redis),
        command.toNode === undefined ? allNodes(redis, keys) : readNodes(redis, keys, [command.toNode]).then(present),
        countByNode(redis, keys, source.group),
        freeNumbers(redis, keys, generatedIdBase(component), take),
      ]);
      return { ...base, nowMs, nodes, ofGroup, firstNumber, stitches: found, source };
    }
    case "group.start":
    case "group.stop":
    case "group.remove": {
      const members = (await membersOf(redis, keys, await listFullGroups(redis, keys, command.target))).flat();
      const ids = [...new Set(members.map((id) => splitFullId(id).node))].sort();
      const [nowMs, nodes, there] = await Promise.all([
        redisTimeMs(redis),
        readNodes(redis, keys, ids).then(present),
        Promise.all(ids.map((node) => listStitchesOfNode(redis, keys, node))),
      ]);
      // Pointers may be stale: what has gone must not fail the job.
      const exist = new Set(there.flatMap((stitches, index) => stitches.map((each) => fullId(ids[index] ?? "", each))));
      return { ...base, nowMs, nodes, stitches: members.filter((id) => exist.has(id)).sort() };
    }
    default: {
      const found = await meant(redis, keys, command.target);
      const node = parseStitchRef(command.target)?.node ?? (found[0] === undefined ? null : splitFullId(found[0]).node);
      const [nowMs, nodes] = await Promise.all([
        redisTimeMs(redis),
        node === null ? [] : readNodes(redis, keys, [node]).then(present),
      ]);
      return { ...base, nowMs, nodes, stitches: found };
    }
  }
}

/** The full ids that a reference to a stitch may mean. */
function meant(redis: RedisClient, keys: Keys, target: string): Promise<string[]> {
  const ref = parseStitchRef(target);
  if (ref === null) throw new Error("an unchecked command reached the planner");
  return existing(redis, keys, ref.stitch, ref.node ?? undefined);
}

/** How many stitches of a full group each node has, by their pointers. */
async function countByNode(redis: RedisClient, keys: Keys, group: string): Promise<Map<string, number>> {
  const [members = []] = await membersOf(redis, keys, [group]);
  const counts = new Map<string, number>();
  for (const member of members) {
    const { node } = splitFullId(member);
    counts.set(node, (counts.get(node) ?? 0) + 1);
  }
  return counts;
}

/** Draws `take` numbers in a row for generated ids that nobody has, and tells the first; with 0 it only looks where the counter stands. */
async function freeNumbers(redis: RedisClient, keys: Keys, idBase: string, take: number): Promise<number> {
  const counter = keys.sequence(idBase);
  if (take === 0) return Number(await redis.get(counter)) + 1;
  for (let draw = 0; draw < MAX_DRAWS; draw++) {
    const first = (await redis.incrby(counter, take)) - take + 1;
    const ids = Array.from({ length: take }, (_, index) => generatedStitchId(idBase, first + index));
    // Somebody may have chosen such an id by hand.
    const taken = await Promise.all(ids.map((id) => redis.exists(keys.route(id))));
    if (taken.every((exists) => exists === 0)) return first;
  }
  throw new RequestError("stitch_exists", `Ids that begin with "${idBase}-" are taken by hand; give the stitch an id.`);
}

/** The full ids under which a stitch exists: on one node, or on any. */
async function existing(redis: RedisClient, keys: Keys, stitch: string, node: string | undefined): Promise<string[]> {
  if (node === undefined) return locateStitch(redis, keys, stitch);
  const id = fullId(node, stitch);
  const [record] = await readStitches(redis, keys, [id]);
  return record == null ? [] : [id];
}
