import { formatGroup, parseGroup } from "../domain/group.ts";
import type { RedisClient } from "./client.ts";
import type { Keys } from "./keys.ts";

/** The full groups inside `group`, itself included where it is full; of the whole cluster where it is null. */
export async function listFullGroups(redis: RedisClient, keys: Keys, group: string | null): Promise<string[]> {
  const asked = group === null ? null : parseGroup(group);
  const applications = asked === null ? (await redis.smembers(keys.applications)).sort() : [asked.application];
  const found = await Promise.all(
    applications.map(async (application) =>
      (await redis.smembers(keys.application(application))).map((rest) => `${application}.${rest}`),
    ),
  );
  const wanted = asked === null ? "" : formatGroup(asked);
  return found
    .flat()
    .filter((full) => wanted === "" || full === wanted || full.startsWith(`${wanted}.`))
    .sort();
}

/** Full ids in each of the full groups, as their pointers say: check the records. */
export function membersOf(redis: RedisClient, keys: Keys, fullGroups: readonly string[]): Promise<string[][]> {
  return Promise.all(fullGroups.map((group) => redis.smembers(keys.group(group))));
}
