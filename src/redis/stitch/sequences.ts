import type { RedisClient } from "../connection/client.ts";
import type { Keys } from "../keys.ts";
import { defineScript, noNumber } from "../connection/script.ts";

/** A component that has had no stitch for this long counts from the beginning again. */
const KEPT_MS = 30 * 86_400_000;

/**
 * Draws consecutive numbers. KEYS sequence. ARGV how many. Returns the last of them. A value that is not a number is not
 * ours and is deleted; a Redis that is full refuses all the same.
 * Atomic: no number is drawn twice.
 */
const draw = defineScript<[sequence: string]>(
  "draw_numbers",
  1,
  `
local last = redis.pcall('INCRBY', KEYS[1], ARGV[1])
if type(last) == 'table' then
  if not ${noNumber("last.err")} then return last end
  redis.call('DEL', KEYS[1])
  last = redis.call('INCRBY', KEYS[1], ARGV[1])
end
redis.call('PEXPIRE', KEYS[1], ${KEPT_MS})
return last
`,
);

/** Draws `count` numbers for generated ids with this base. @returns the first of them. */
export async function drawNumbers(redis: RedisClient, keys: Keys, idBase: string, count: number): Promise<number> {
  return Number(await draw.call(redis, [keys.sequence(idBase)], [count])) - count + 1;
}

/** The number that would be drawn next. */
export async function nextNumber(redis: RedisClient, keys: Keys, idBase: string): Promise<number> {
  const last = Number(await redis.get(keys.sequence(idBase)).catch(none));
  return Number.isInteger(last) ? last + 1 : 1;
}

/** The key holds something that is not a number: the next draw starts from the beginning. */
function none(error: unknown): null {
  if (error instanceof Error && error.message.startsWith("WRONGTYPE")) return null;
  throw error;
}

/** Restarts the time after which a counter expires, because it is in use. */
export async function keepSequence(redis: RedisClient, keys: Keys, idBase: string): Promise<void> {
  await redis.pexpire(keys.sequence(idBase), KEPT_MS);
}
