import type { RedisClient } from "./connection/client.ts";
import type { Keys } from "./keys.ts";
import { defineScript, noNumber } from "./connection/script.ts";

/**
 * Draws the next revision if the key holds something that is not a number. KEYS revision.
 * The counter continues from the time in hundredths of a millisecond. No counter reaches that time, not even one that
 * continued from an earlier time: every node would refuse a revision that was drawn before. The number has 15 digits, the
 * most that a revision may have.
 * Atomic: another process may have repaired the counter by now.
 */
const drawAnew = defineScript<[revision: string]>(
  "draw_revision_anew",
  1,
  `
local drawn = redis.pcall('INCR', KEYS[1])
if type(drawn) ~= 'table' or not ${noNumber("drawn.err")} then return drawn end
local t = redis.call('TIME')
local at = t[1] * 100000 + math.floor(t[2] / 10)
redis.call('SET', KEYS[1], string.format('%.0f', at))
return at
`,
);

/** Raises the cluster's counter to at least `least`. KEYS revision. ARGV least. Atomic: the counter never goes back. */
const raise = defineScript<[revision: string]>(
  "raise_revision",
  1,
  `
local last = redis.pcall('GET', KEYS[1])
if type(last) == 'table' then return 0 end
last = tonumber(last or 0)
if last and last < tonumber(ARGV[1]) then redis.call('SET', KEYS[1], ARGV[1]) end
return 1
`,
);

/** Draws the next revision of the cluster: higher than all before. */
export async function drawRevision(redis: RedisClient, keys: Keys): Promise<number> {
  return redis.incr(keys.revision).catch(async (error: unknown) => {
    if (!(error instanceof Error && /^WRONGTYPE|not an integer|overflow/.test(error.message))) throw error;
    return Number(await drawAnew.call(redis, [keys.revision], []));
  });
}

/**
 * Raises the cluster's counter to at least `least`. After Redis came back with older data, new commands must not draw
 * revisions that nodes have already applied.
 */
export async function raiseRevision(redis: RedisClient, keys: Keys, least: number): Promise<void> {
  if (least > 0) await raise.call(redis, [keys.revision], [least]);
}
