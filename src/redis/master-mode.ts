import * as z from "zod";
import { RequestError } from "../domain/errors.ts";
import type { MasterMode } from "../domain/master-mode.ts";
import type { RedisClient } from "./connection/client.ts";
import { defineScript } from "./connection/script.ts";
import type { Keys } from "./keys.ts";
import { readIndex } from "./unreadable.ts";

/**
 * Lua: compares the mode of the cluster with the caller's. `wrong_mode(key, mode)` returns false if they are equal, else what
 * the script must return: `{'mode', '<the mode of the cluster>'}`, with '' if no mode is recorded.
 */
export const WRONG_MODE = `
local function wrong_mode(key, mode)
  local is = redis.pcall('HGET', key, 'mode')
  if type(is) ~= 'string' then return {'mode', ''} end
  return is ~= mode and {'mode', is}
end
`;

/** The reply of a script that has found another mode, or none. */
export const wrongMode = z.tuple([z.literal("mode"), z.string()]);

/**
 * Records the mode of a cluster that has none, and makes the keys that the scripts of this slot use. A missing key would make
 * every draw fail with TRYAGAIN while the slot moves between the servers of a Redis Cluster.
 * KEYS mode, busy, revision. ARGV mode, id for the cluster. Returns the mode that is recorded.
 * Atomic: of two Masters with different modes, the first one decides.
 */
const record = defineScript<[mode: string, busy: string, revision: string]>(
  "record_master_mode",
  3,
  `
only(KEYS[1], 'hash')
only(KEYS[2], 'hash')
redis.call('HSETNX', KEYS[1], 'mode', ARGV[1])
redis.call('HSETNX', KEYS[1], 'cluster', ARGV[2])
redis.call('HSETNX', KEYS[1], 'lease', '')
redis.call('HSETNX', KEYS[2], '_', '')
redis.call('SETNX', KEYS[3], '0')
return redis.call('HGET', KEYS[1], 'mode')
`,
);

/** Changes the mode. KEYS mode. ARGV mode, who. Returns the mode before, or ''. */
const change = defineScript<[mode: string]>(
  "change_master_mode",
  1,
  `
local before = redis.call('HGET', KEYS[1], 'mode')
redis.call('HSET', KEYS[1], 'mode', ARGV[1], 'changedAtMs', now, 'changedBy', ARGV[2])
return before or ''
`,
);

/**
 * Runs a script that compares the mode. If the cluster has no mode yet, records `mode` and runs the script again.
 * @throws RequestError `wrong_mode` if the cluster has another mode.
 */
export async function inMode(
  redis: RedisClient,
  keys: Keys,
  mode: MasterMode,
  call: () => Promise<unknown>,
): Promise<unknown> {
  const reply = await call();
  const refused = wrongMode.safeParse(reply);
  if (!refused.success) return reply;
  const [, found] = refused.data;
  const recorded = found === "" ? await recordMode(redis, keys, mode) : found;
  if (recorded !== mode) throw await otherMode(redis, keys, mode, recorded);
  // Recorded a moment ago, by this process or by another one of the same mode.
  const again = await call();
  if (wrongMode.safeParse(again).success) throw await otherMode(redis, keys, mode, "");
  return again;
}

/** Records the mode of a cluster that has none. Safe to repeat. @returns the mode of the cluster. */
async function recordMode(redis: RedisClient, keys: Keys, mode: MasterMode): Promise<string> {
  const id = crypto.randomUUID();
  return z.string().parse(await record.call(redis, [keys.masterMode, keys.busy, keys.revision], [mode, id]));
}

/** Most Masters that an error names. */
const NAMED = 5;

async function otherMode(redis: RedisClient, keys: Keys, mode: MasterMode, found: string): Promise<RequestError> {
  const names = await readIndex(
    redis,
    keys.masters,
    "zset",
    redis.zrange(keys.masters, "0", String(NAMED - 1), "REV"),
    [],
  );
  return new RequestError(
    "wrong_mode",
    `The cluster "${keys.cluster}" runs its Masters in the mode ${found || "of another process"}` +
      `${names.length === 0 ? "" : ` (${names.join(", ")})`}, and this process is set to ${mode}. ` +
      `Set STITCH_MASTER=${found === "own" ? "<path of the module>" : found || "…"} for it, or change the mode of the cluster: stitch masters set-mode ${mode}.`,
    { mode: found, masters: names },
  );
}

/**
 * Changes the mode of the cluster. Masters and APIs that are set to another mode refuse to decide from then on. Safe to repeat.
 * @returns the mode before; null if none was recorded.
 */
export async function changeMasterMode(
  redis: RedisClient,
  keys: Keys,
  mode: MasterMode,
  by: string | null,
): Promise<string | null> {
  await recordMode(redis, keys, mode);
  const before = z.string().parse(await change.call(redis, [keys.masterMode], [mode, by ?? ""]));
  return before === "" ? null : before;
}
