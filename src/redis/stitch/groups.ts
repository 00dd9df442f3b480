import * as z from "zod";
import { parseFullGroup, parseGroup } from "../../domain/names/group.ts";
import { parseStitchRef } from "../../domain/names/ids.ts";
import type { RedisClient } from "../connection/client.ts";
import { isCluster } from "../connection/connection.ts";
import { defineScript } from "../connection/script.ts";
import { aroundId, type Keys } from "../keys.ts";
import { type OnUnreadable, readIndex } from "../unreadable.ts";

/** Applications, groups and members that one call of the script looks at: other clients of Redis wait some milliseconds meanwhile. */
const LOOKED_AT = 10_000;

/**
 * Lists full groups with their members. Not for a Cluster. ARGV applications, what stands before and after the name in the key of an
 * application, the same of a full group, how much to look at, then the only application that is looked at, if it is only one.
 * Returns {{full group, {member, …} or false}, …}: false for a key of another type, and once there are more members than may be looked
 * at; false in all if that is so before all groups are listed.
 */
const walk = defineScript<[]>(
  "list_groups",
  0,
  `
local looks = tonumber(ARGV[6])
local function members(key)
  local size = redis.pcall('SCARD', key)
  if type(size) == 'table' or size >= looks then return false end
  looks = looks - 1 - size
  return redis.call('SMEMBERS', key)
end
local full, reply = {}, {}
local applications = ARGV[7] and {ARGV[7]} or members(ARGV[1])
if not applications then return false end
for _, application in ipairs(applications) do
  local rests = members(ARGV[2] .. application .. ARGV[3])
  if not rests then return false end
  for _, rest in ipairs(rests) do full[#full + 1] = application .. '.' .. rest end
end
for i, group in ipairs(full) do
  reply[i] = {group, members(ARGV[4] .. group .. ARGV[5])}
end
return reply
`,
);

const walkReply = z.array(z.tuple([z.string(), z.array(z.string()).nullable()])).nullable();

/** `membersIn`: as `membersOf`, for some of the full groups. */
type Groups = {
  /** Sorted. */
  readonly full: readonly string[];
  readonly membersIn: (fullGroups: readonly string[]) => Promise<readonly (readonly string[])[]>;
};

/**
 * The full groups inside `group`, as `listFullGroups`, with their members. On a single Redis, one round trip as long as there are not
 * more than some thousands of stitches.
 */
export async function readGroups(
  redis: RedisClient,
  keys: Keys,
  group: string | null,
  onUnreadable?: OnUnreadable,
): Promise<Groups> {
  const known = isCluster(redis) || (group !== null && isFull(group)) ? null : await walkAtOnce(redis, keys, group);
  return {
    full:
      known === null
        ? await listFullGroups(redis, keys, group, onUnreadable)
        : [...known.keys()].filter((full) => isFull(full) && isInside(full, group)).sort(),
    membersIn: (fullGroups) =>
      Promise.all(
        fullGroups.map(async (group) => known?.get(group) ?? fullIdsIn(redis, keys.group(group), onUnreadable)),
      ),
  };
}

async function walkAtOnce(
  redis: RedisClient,
  keys: Keys,
  group: string | null,
): Promise<Map<string, string[] | null> | null> {
  const around = [...aroundId((name) => keys.application(name)), ...aroundId((full) => keys.group(full))];
  const only = group === null ? [] : [parseGroup(group)?.application ?? ""];
  const reply = walkReply.parse(await walk.call(redis, [], [keys.applications, ...around, LOOKED_AT, ...only]));
  return reply === null ? null : new Map(reply.map(([full, members]) => [full, members?.filter(isFullId) ?? null]));
}

const isFull = (group: string): boolean => parseFullGroup(group) !== null;
const isInside = (full: string, group: string | null): boolean =>
  group === null || full === group || full.startsWith(`${group}.`);
const isFullId = (member: string): boolean => parseStitchRef(member)?.node != null;

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
  return found
    .flat()
    .filter((full) => isFull(full) && isInside(full, group))
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
  return members.filter(isFullId);
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
