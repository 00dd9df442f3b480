import { fullId, splitFullId } from "../../domain/names/ids.ts";
import { type StitchUsage, stitchUsage } from "../../domain/stitch/stitch.ts";
import type { RedisClient } from "../connection/client.ts";
import type { Keys } from "../keys.ts";
import { defineScript } from "../connection/script.ts";
import { type OnUnreadable, readField, readKey } from "../unreadable.ts";
import { NEVER_EMPTY } from "./stitch-records.ts";

/**
 * Replaces the usage of a node's stitches. KEYS usage. ARGV incarnation, for how many ms it is kept, then stitch, usage, ….
 * Atomic: readers see values that were measured together, and a late write of an earlier incarnation changes nothing.
 */
const replaceUsage = defineScript<[usage: string]>(
  "publish_usage",
  1,
  `
only(KEYS[1], 'hash')
local by = redis.call('HGET', KEYS[1], '${NEVER_EMPTY}')
if by and tonumber(by) and tonumber(by) > tonumber(ARGV[1]) then return 0 end
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], '${NEVER_EMPTY}', ARGV[1])
for i = 3, #ARGV, 2 do redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]) end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1
`,
);

/**
 * Publishes what a node's stitches use, all in one round trip. It replaces what was published before. The usage expires by
 * itself: if nobody measures a stitch, nothing is known about it.
 */
export async function publishUsage(
  redis: RedisClient,
  keys: Keys,
  node: string,
  incarnation: number,
  usage: ReadonlyMap<string, StitchUsage>,
  keptMs: number,
): Promise<void> {
  const fields = [...usage].flatMap(([stitch, each]) => [stitch, JSON.stringify(each)]);
  await replaceUsage.call(redis, [keys.nodeUsage(node)], [incarnation, keptMs, ...fields]);
}

/** What stitches use, by full id; null if it is not known, or cannot be read. One round trip, one command for each node. */
export async function readUsage(
  redis: RedisClient,
  keys: Keys,
  fullIds: readonly string[],
  onUnreadable: OnUnreadable,
): Promise<(StitchUsage | null)[]> {
  const byNode = Map.groupBy(fullIds.map(splitFullId), ({ node }) => node);
  const found = new Map<string, StitchUsage>();
  await Promise.all(
    [...byNode].map(async ([node, stitches]) => {
      const key = keys.nodeUsage(node);
      const read = redis.hmget(key, ...stitches.map(({ stitch }) => stitch));
      const texts = await readKey({ id: node, key }, read, [], onUnreadable);
      for (const [index, text] of texts.entries()) {
        const field = stitches[index]?.stitch ?? "";
        const id = fullId(node, field);
        const usage = text == null ? null : readField(stitchUsage, text, { id, key, field }, onUnreadable);
        if (usage !== null) found.set(id, usage);
      }
    }),
  );
  return fullIds.map((id) => found.get(id) ?? null);
}
