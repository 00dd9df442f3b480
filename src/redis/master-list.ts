import * as z from "zod";
import type { ChosenMaster } from "../domain/master-mode.ts";
import type { RedisClient } from "./connection/client.ts";
import { defineScript } from "./connection/script.ts";
import type { Keys } from "./keys.ts";
import { inMode, KEPT_FIELD, MASTER_ALIVE_MS, modeArgs, WRONG_LEASE } from "./master-mode.ts";
import { readIndex } from "./unreadable.ts";

/** A Master that was not seen for this long is taken off the list. */
const KEPT_MS = 60_000;
/** Old entries that one call removes at most. */
const MOST_REMOVED = 100;

/**
 * Records that a Master is alive, and removes old entries, and those from a Redis whose clock was far ahead. KEYS seen, versions,
 * mode. ARGV mode, preferred, id, version, the place of the leader's lease or ''.
 * Returns how many ms ago the preferred Master was seen, or -1 if it is not on the list; or see `WRONG_LEASE`.
 */
const see = defineScript<[seen: string, versions: string, mode: string]>(
  "see_master",
  3,
  `${WRONG_LEASE}
local wrong = wrong_mode(KEYS[3], ARGV[1], ARGV[2]) or (ARGV[5] ~= '' and wrong_lease(KEYS[3], ARGV[5]))
if wrong then return wrong end
only(KEYS[1], 'zset')
only(KEYS[2], 'hash')
redis.call('ZADD', KEYS[1], 'inf', '${KEPT_FIELD}')
redis.call('HSETNX', KEYS[2], '${KEPT_FIELD}', '')
local function remove(from, to)
  local old = redis.call('ZRANGE', KEYS[1], from, to, 'BYSCORE', 'LIMIT', 0, ${MOST_REMOVED})
  if #old == 0 then return end
  redis.call('ZREM', KEYS[1], unpack(old))
  redis.call('HDEL', KEYS[2], unpack(old))
end
remove('-inf', now - ${KEPT_MS})
remove(now + ${KEPT_MS}, '(inf')
local preferred = redis.call('ZSCORE', KEYS[1], ARGV[2])
redis.call('ZADD', KEYS[1], now, ARGV[3])
redis.call('HSET', KEYS[2], ARGV[3], ARGV[4])
return preferred and now - preferred or -1
`,
);

export type SeenMaster = { readonly id: string; readonly version: string; readonly lastSeenAtMs: number };

/**
 * Records that a Master is alive. Safe to repeat: to be called each second.
 * @returns how many ms ago the preferred Master was seen before this call; null if it is not on the list.
 * @throws RequestError `wrong_mode` if the cluster's Masters have another mode.
 */
export async function seeMaster(
  redis: RedisClient,
  keys: Keys,
  chosen: ChosenMaster,
  id: string,
  version: string,
): Promise<number | null> {
  const args = [...modeArgs(chosen), id, version, chosen.lease ?? ""];
  const reply = await inMode(redis, keys, chosen, () =>
    see.call(redis, [keys.masters, keys.masterVersions, keys.masterMode], args),
  );
  const agoMs = z.number().parse(reply);
  return agoMs < 0 ? null : agoMs;
}

/** Takes a Master that ends off the list. Safe to repeat. */
export async function forgetMaster(redis: RedisClient, keys: Keys, id: string): Promise<void> {
  await Promise.all([redis.zrem(keys.masters, id), redis.hdel(keys.masterVersions, id)]);
}

/**
 * The Masters that are alive, by id.
 * @param nowMs the time of the Redis that has the list.
 */
export async function readMasters(redis: RedisClient, keys: Keys, nowMs: number): Promise<readonly SeenMaster[]> {
  const [from, to] = [String(nowMs - MASTER_ALIVE_MS), String(nowMs + MASTER_ALIVE_MS)];
  const [seen, versions] = await Promise.all([
    readIndex(redis, keys.masters, "zset", redis.zrange(keys.masters, from, to, "BYSCORE", "WITHSCORES"), []),
    readIndex(redis, keys.masterVersions, "hash", redis.hgetall(keys.masterVersions), {}),
  ]);
  const masters = Array.from({ length: seen.length / 2 }, (_, index): SeenMaster => {
    const id = String(seen[2 * index]);
    return { id, version: versions[id] ?? "", lastSeenAtMs: Number(seen[2 * index + 1]) };
  });
  return masters.sort((a, b) => (a.id < b.id ? -1 : 1));
}
