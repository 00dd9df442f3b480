import * as z from "zod";
import { RequestError } from "../domain/errors.ts";
import { type ChosenMaster, MASTER_MODES, settingOf } from "../domain/master-mode.ts";
import type { RedisClient } from "./connection/client.ts";
import { defineScript } from "./connection/script.ts";
import type { Keys } from "./keys.ts";
import { readIndex } from "./unreadable.ts";

/** A Master that was not seen for this long does not count as alive. It is seen each second. */
export const MASTER_ALIVE_MS = 5000;
/** The field or member that keeps a key there while it holds nothing else. */
export const KEPT_FIELD = "_";

/**
 * Lua: compares the mode of the cluster with the caller's. `wrong_mode(key, mode, preferred)` returns false if they are equal,
 * else what the script must return: `{'mode', mode, preferred}` of the cluster, with '' for the mode if none is recorded, or one
 * that cannot be read: then it is recorded anew.
 */
export const WRONG_MODE = `
local function mode_of(key)
  local is = redis.pcall('HMGET', key, 'mode', 'preferred')
  if is.err then return '', '' end
  if is[1] == 'leaderless' or is[1] == 'own' or is[1] == 'leader' then return is[1], '' end
  if is[1] == 'preferred' and is[2] and string.match(is[2], '^[a-z0-9][a-z0-9-]*$') then return is[1], is[2] end
  return '', ''
end
local function wrong_mode(key, mode, preferred)
  local is, prefers = mode_of(key)
  return (is ~= mode or prefers ~= preferred) and {'mode', is, prefers}
end
`;

/**
 * Lua: compares the place of the leader's lease, too, in the mode `leader`. `wrong_lease(key, place)` returns false if it is the same,
 * or none is recorded: then this one is. Else what the script must return: `{'place', place}`, or see `WRONG_MODE`.
 */
export const WRONG_LEASE = `${WRONG_MODE}
local function wrong_lease(mode, place)
  local wrong = wrong_mode(mode, 'leader', '')
  if wrong then return wrong end
  local is = redis.call('HGET', mode, 'lease')
  if not is or is == '' then redis.call('HSET', mode, 'lease', place)
  elseif is ~= place then return {'place', is} end
  return false
end
`;

/** The arguments of `wrong_mode`. */
export const modeArgs = ({ mode, preferred }: ChosenMaster): [mode: string, preferred: string] => [
  mode,
  preferred ?? "",
];

/** The reply of a script that has found another mode, or none. */
const wrongMode = z.tuple([z.literal("mode"), z.string(), z.string()]);
const wrongLease = z.tuple([z.literal("place"), z.string()]);

type ModeKeys = [mode: string, busy: string, revision: string, seen: string, versions: string, lease: string];
const modeKeys = (keys: Keys): ModeKeys => [
  keys.masterMode,
  keys.busy,
  keys.revision,
  keys.masters,
  keys.masterVersions,
  keys.leaderLease,
];

/**
 * Records the mode of the cluster, and makes the keys that the scripts of this slot use: a missing key would make them fail with
 * TRYAGAIN while the slot moves between the servers of a Redis Cluster.
 * KEYS mode, busy, revision, seen, versions, lease. ARGV mode, preferred, id for the cluster, '1' to change a mode that is recorded,
 * the place of the leader's lease or ''.
 * Returns {mode, preferred} as they were before, with '' for the mode if none was recorded.
 * A change ends the term of a leader, and raises the epoch: whoever is elected later has a higher order than all before.
 * Atomic: of two Masters with different modes, the first one decides.
 */
const record = defineScript<ModeKeys>(
  "record_master_mode",
  6,
  `${WRONG_MODE}
only(KEYS[1], 'hash')
only(KEYS[2], 'hash')
only(KEYS[4], 'zset')
only(KEYS[5], 'hash')
only(KEYS[6], 'hash')
redis.call('HSETNX', KEYS[1], 'cluster', ARGV[3])
redis.call('HSETNX', KEYS[1], 'lease', '')
redis.call('HSETNX', KEYS[2], '${KEPT_FIELD}', '')
redis.call('SETNX', KEYS[3], '0')
redis.call('ZADD', KEYS[4], 'inf', '${KEPT_FIELD}')
redis.call('HSETNX', KEYS[5], '${KEPT_FIELD}', '')
redis.call('HSETNX', KEYS[6], '${KEPT_FIELD}', '')
local before, preferred = mode_of(KEYS[1])
local m = redis.call('HMGET', KEYS[1], 'lease', 'epoch')
local changes = before ~= ARGV[1] or preferred ~= ARGV[2] or m[1] ~= ARGV[5]
if before == '' or (ARGV[4] == '1' and changes) then
  redis.call('HSET', KEYS[1], 'mode', ARGV[1], 'preferred', ARGV[2], 'lease', ARGV[5], 'sinceMs', now)
  redis.call('HSET', KEYS[1], 'epoch', string.format('%.0f', math.max((tonumber(m[2] or 0) or 0) + 1, now)))
  redis.call('DEL', KEYS[6])
  redis.call('HSET', KEYS[6], '${KEPT_FIELD}', '')
end
return {before, preferred}
`,
);

const recorded = z.tuple([z.string(), z.string()]);

/**
 * Runs a script that compares the mode, or the place of the lease. If the cluster has no mode yet, records the caller's and runs the
 * script again.
 * @throws RequestError `wrong_mode` if the cluster has another mode, or the lease lives in another place.
 */
export async function inMode(
  redis: RedisClient,
  keys: Keys,
  chosen: ChosenMaster,
  call: () => Promise<unknown>,
): Promise<unknown> {
  let reply = await call();
  let other = otherIn(reply);
  if (other?.mode === "") {
    // Another process may record one meanwhile, of this mode or another.
    await recordMode(redis, keys, chosen, false);
    reply = await call();
    other = otherIn(reply);
  }
  if (other !== null) throw await otherMode(redis, keys, chosen, other);
  return reply;
}

/** What a script has found instead of the caller's mode, or place of the lease; null if it was the same. */
function otherIn(reply: unknown): (Mode & { readonly lease?: string }) | null {
  const { data: place } = wrongLease.safeParse(reply);
  if (place !== undefined) return { mode: "leader", preferred: "", lease: place[1] };
  const { data: mode } = wrongMode.safeParse(reply);
  return mode === undefined ? null : { mode: mode[1], preferred: mode[2] };
}

type Mode = { readonly mode: string; readonly preferred: string | null };

async function recordMode(redis: RedisClient, keys: Keys, chosen: ChosenMaster, changes: boolean): Promise<Mode> {
  const args = [...modeArgs(chosen), crypto.randomUUID(), changes ? "1" : "0", chosen.lease ?? ""];
  const [mode, preferred] = recorded.parse(await record.call(redis, modeKeys(keys), args));
  return { mode, preferred };
}

/** Most Masters that an error names. */
const NAMED = 5;

/** The error for a process whose Master does not fit the cluster's: names both settings, and Masters of the cluster. */
async function otherMode(
  redis: RedisClient,
  keys: Keys,
  chosen: ChosenMaster,
  found: Mode & { readonly lease?: string | null },
): Promise<RequestError> {
  const [seconds = 0] = (await redis.time()).map(Number);
  const alive = redis.zrange(
    keys.masters,
    String(1000 * seconds + MASTER_ALIVE_MS),
    String(1000 * seconds - MASTER_ALIVE_MS),
    "BYSCORE",
    "REV",
    "LIMIT",
    "0",
    String(NAMED),
  );
  const names = await readIndex(redis, keys.masters, "zset", alive, []);
  const own = settingOf(chosen);
  const needed = settingOf({ lease: null, ...found });
  return new RequestError(
    "wrong_mode",
    `The cluster "${keys.cluster}" runs its Masters with ${needed}` +
      `${names.length === 0 ? "" : ` (${names.join(", ")})`}, and this process is set to ${own}. ` +
      "Start it with the cluster's settings, or change the mode of the cluster: stitch masters set-mode.",
    { mode: found.mode, masters: names },
  );
}

/**
 * Changes the mode of the cluster. Processes that are set to another mode refuse to decide from then on. Safe to repeat.
 * @returns the mode before; null if none was recorded.
 */
export async function changeMasterMode(redis: RedisClient, keys: Keys, chosen: ChosenMaster): Promise<string | null> {
  const { mode } = await recordMode(redis, keys, chosen, true);
  return mode === "" ? null : mode;
}

/**
 * Refuses a process that is set to another mode than the cluster's. For processes that draw no revision themselves.
 * @throws RequestError `wrong_mode`
 */
export async function refuseOtherMode(redis: RedisClient, keys: Keys, chosen: ChosenMaster): Promise<void> {
  const found = await readMasterMode(redis, keys);
  if (found === null || (found.mode === chosen.mode && found.preferred === chosen.preferred)) return;
  throw await otherMode(redis, keys, chosen, found);
}

const known = z.enum(MASTER_MODES).nullable().catch(null);

/** The mode of the cluster, and the epoch (see `Order`); null if none is recorded. */
export async function readMasterMode(
  redis: RedisClient,
  keys: Keys,
): Promise<(ChosenMaster & { readonly epoch: number }) | null> {
  const [mode = null, preferred = null, lease = null, epoch = null] = await readIndex(
    redis,
    keys.masterMode,
    "hash",
    redis.hmget(keys.masterMode, "mode", "preferred", "lease", "epoch"),
    [],
  );
  const is = known.parse(mode);
  return is === null
    ? null
    : {
        mode: is,
        preferred: preferred === "" ? null : preferred,
        lease: lease === "" ? null : lease,
        epoch: Number(epoch) || 0,
      };
}
