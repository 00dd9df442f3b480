import type { RedisClient } from "./connection/client.ts";
import type { Keys } from "./keys.ts";
import { defineScript, noNumber } from "./connection/script.ts";

/**
 * Draws the next revision where something else than a number was found. KEYS revision. It goes on from the time in
 * hundredths of a millisecond, which no counter comes to, nor one that went on from such a time: a revision that was drawn
 * before would be refused by every node. It has 15 digits, as many as a revision may have.
 * Atomic: another may have put it right by now.
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

/** KEYS revision. ARGV least. Raises the cluster's counter to at least that; atomic, so that it never goes back. */
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

/** The next revision of the cluster: higher than all before. */
export async function drawRevision(redis: RedisClient, keys: Keys): Promise<number> {
  return redis.incr(keys.revision).catch(async (error: unknown) => {
    if (!(error instanceof Error && /^WRONGTYPE|not an integer|overflow/.test(error.message))) throw error;
    return Number(await drawAnew.call(redis, [keys.revision], []));
  });
}

/** After a Redis that came back older, new commands must not draw revisions that nodes have already applied. */
export async function raiseRevision(redis: RedisClient, keys: Keys, least: number): Promise<void> {
  if (least > 0) await raise.call(redis, [keys.revision], [least]);
}
