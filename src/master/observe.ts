import type { Command } from "../domain/command.ts";
import { RequestError } from "../domain/errors.ts";
import { parseFullGroup } from "../domain/group.ts";
import { fullId, generatedIdBase, generatedStitchId, parseStitchRef, splitFullId } from "../domain/ids.ts";
import type { NodeRecord } from "../domain/node.ts";
import type { Observed } from "../domain/plan.ts";
import type { RedisClient } from "../redis/client.ts";
import type { Keys } from "../redis/keys.ts";
import { listNodeIds, readNodes, redisTimeMs } from "../redis/node-record.ts";
import { locateStitch, membersOf, readStitches } from "../redis/stitch-records.ts";

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
  const base = { deadAfterMs, ofGroup: new Map<string, number>(), firstNumber: 1, stitches: [] as string[] };
  switch (command.command) {
    case "node.ping":
    case "node.cordon":
    case "node.uncordon": {
      const [nowMs, nodes] = await Promise.all([redisTimeMs(redis), readNodes(redis, keys, [command.target])]);
      return { ...base, nowMs, nodes: present(nodes) };
    }
    case "stitch.create": {
      const component = parseFullGroup(command.target)?.component ?? "stitch";
      const [nowMs, nodes, [members = []], firstNumber, stitches] = await Promise.all([
        redisTimeMs(redis),
        command.node === undefined ? allNodes(redis, keys) : readNodes(redis, keys, [command.node]).then(present),
        membersOf(redis, keys, [command.target]),
        command.id !== undefined ? 1 : freeNumbers(redis, keys, generatedIdBase(component), take),
        command.id === undefined ? [] : existing(redis, keys, command.id, command.node),
      ]);
      const ofGroup = new Map<string, number>();
      for (const member of members) {
        const { node } = splitFullId(member);
        ofGroup.set(node, (ofGroup.get(node) ?? 0) + 1);
      }
      return { ...base, nowMs, nodes, ofGroup, stitches, firstNumber };
    }
    default: {
      const ref = parseStitchRef(command.target);
      if (ref === null) throw new Error("an unchecked command reached the planner");
      const stitches =
        ref.node === null ? await locateStitch(redis, keys, ref.stitch) : existing(redis, keys, ref.stitch, ref.node);
      const found = await stitches;
      const node = ref.node ?? (found[0] === undefined ? null : splitFullId(found[0]).node);
      const [nowMs, nodes] = await Promise.all([
        redisTimeMs(redis),
        node === null ? [] : readNodes(redis, keys, [node]).then(present),
      ]);
      return { ...base, nowMs, nodes, stitches: found };
    }
  }
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
