import { parseFullGroup } from "../../domain/names/group.ts";
import { fullId, nodeId } from "../../domain/names/ids.ts";
import type { StitchRecord } from "../../domain/stitch/stitch.ts";
import type { RedisClient } from "../connection/client.ts";
import type { Keys } from "../keys.ts";
import { fullIdsIn, listFullGroups } from "./groups.ts";
import { readIndex, writeIndex } from "../unreadable.ts";

/** Adds to a set of pointers. */
export const addPointer = (redis: RedisClient, key: string, member: string): Promise<unknown> =>
  writeIndex(redis, key, "set", () => redis.sadd(key, member));

/** Removes from a set of pointers. */
export const dropPointer = (redis: RedisClient, key: string, member: string): Promise<unknown> =>
  writeIndex(redis, key, "set", () => redis.srem(key, member));

/** Adds the pointers that route messages. The node writes them with the stitch's own pointers; at worst they are stale. */
export function addRoutes(
  redis: RedisClient,
  keys: Keys,
  node: string,
  record: Pick<StitchRecord, "id" | "group" | "takesMessages">,
): Promise<unknown>[] {
  if (!record.takesMessages) return [];
  return [
    addPointer(redis, keys.receivers(record.group), fullId(node, record.id)),
    addPointer(redis, keys.receiverNodes(record.group), node),
  ];
}

/** @param receives does the node still have a stitch of the group that takes messages? */
export function dropRoutes(
  redis: RedisClient,
  keys: Keys,
  node: string,
  { id, group }: { id: string; group: string },
  receives: boolean,
): Promise<unknown>[] {
  return [
    dropPointer(redis, keys.receivers(group), fullId(node, id)),
    ...(receives ? [] : [dropPointer(redis, keys.receiverNodes(group), node)]),
  ];
}

const fullGroupsOf = (redis: RedisClient, keys: Keys, group: string): Promise<string[]> | string[] =>
  parseFullGroup(group) === null ? listFullGroups(redis, keys, group) : [group];

/** The nodes with a stitch that takes messages, in the group or inside it. The cost does not grow with the stitches. */
export async function nodesOfGroup(redis: RedisClient, keys: Keys, group: string): Promise<string[]> {
  const full = await fullGroupsOf(redis, keys, group);
  const nodes = await Promise.all(
    full.map((each) => {
      const key = keys.receiverNodes(each);
      return readIndex(redis, key, "set", redis.smembers(key), []);
    }),
  );
  return [...new Set(nodes.flat().filter((node) => nodeId.safeParse(node).success))].sort();
}

/** The full ids of the stitches that take messages, in the group or inside it, by their pointers. */
export async function receiversOf(redis: RedisClient, keys: Keys, group: string): Promise<string[]> {
  const full = await fullGroupsOf(redis, keys, group);
  const members = await Promise.all(full.map((each) => fullIdsIn(redis, keys.receivers(each))));
  return members.flat().sort();
}
