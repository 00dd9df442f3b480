import { formatGroup, parseFullGroup, parseGroup } from "../../domain/names/group.ts";
import { parseStitchRef } from "../../domain/names/ids.ts";
import type { RedisClient } from "../connection/client.ts";
import type { Keys } from "../keys.ts";
import { type OnUnreadable, readIndex } from "../unreadable.ts";

/** The full groups inside `group`: itself if it is full, whether it has stitches or not; those of the whole cluster if `group` is null. */
export async function listFullGroups(
  redis: RedisClient,
  keys: Keys,
  group: string | null,
  onUnreadable?: OnUnreadable,
): Promise<string[]> {
  if (group !== null && parseFullGroup(group) !== null) return [group];
  const asked = group === null ? null : parseGroup(group);
  const members = (key: string) => readIndex(redis, key, "set", redis.smembers(key), [], onUnreadable);
  const applications = asked === null ? (await members(keys.applications)).sort() : [asked.application];
  const found = await Promise.all(
    applications.map(async (application) =>
      (await members(keys.application(application))).map((rest) => `${application}.${rest}`),
    ),
  );
  const wanted = asked === null ? "" : formatGroup(asked);
  return found
    .flat()
    .filter((full) => wanted === "" || full === wanted || full.startsWith(`${wanted}.`))
    .filter((full) => parseFullGroup(full) !== null)
    .sort();
}

/** The full ids in each of the full groups, by their pointers. Pointers may be stale: check the records. */
export function membersOf(
  redis: RedisClient,
  keys: Keys,
  fullGroups: readonly string[],
  onUnreadable?: OnUnreadable,
): Promise<string[][]> {
  return Promise.all(fullGroups.map((group) => fullIdsIn(redis, keys.group(group), onUnreadable)));
}

/** The full ids in a set of pointers, without members that are not full ids. */
export async function fullIdsIn(redis: RedisClient, key: string, onUnreadable?: OnUnreadable): Promise<string[]> {
  const members = await readIndex(redis, key, "set", redis.smembers(key), [], onUnreadable);
  return members.filter((member) => parseStitchRef(member)?.node != null);
}

/** How many stitches each of the full groups has, by their pointers. */
export function countMembers(redis: RedisClient, keys: Keys, fullGroups: readonly string[]): Promise<number[]> {
  return Promise.all(
    fullGroups.map((group) => readIndex(redis, keys.group(group), "set", redis.scard(keys.group(group)), 0)),
  );
}

/** Removes a full group from the lists. A node that has a stitch of the group adds it again within minutes. */
export async function dropFromLists(redis: RedisClient, keys: Keys, fullGroup: string): Promise<void> {
  const [application = "", ...rest] = fullGroup.split(".");
  await redis.srem(keys.application(application), rest.join("."));
  if ((await redis.exists(keys.application(application))) === 0) await redis.srem(keys.applications, application);
}
