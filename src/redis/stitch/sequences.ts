import * as z from "zod";
import type { RedisClient } from "../connection/client.ts";
import { isCluster } from "../connection/connection.ts";
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

/** How often to draw numbers to find free ids: first one after the other, then with growing gaps, then give up. */
const DRAWS_IN_A_ROW = 10;
const MOST_DRAWS = 30;

/**
 * Draws consecutive numbers until the ids that they make are free. KEYS sequence. ARGV how many, how the keys of the ids' routes begin.
 * Returns the first of the numbers, or false. For a single Redis: the routes are keys of other slots.
 */
const drawFree = defineScript<[sequence: string]>(
  "draw_free_numbers",
  1,
  `
local take = tonumber(ARGV[1])
for draw = 0, ${MOST_DRAWS - 1} do
  local passed = draw < ${DRAWS_IN_A_ROW} and 0 or 2 ^ (draw - ${DRAWS_IN_A_ROW})
  local last = redis.pcall('INCRBY', KEYS[1], take + passed)
  if type(last) == 'table' then
    if not ${noNumber("last.err")} then return last end
    redis.call('DEL', KEYS[1])
    last = redis.call('INCRBY', KEYS[1], take + passed)
  end
  redis.call('PEXPIRE', KEYS[1], ${KEPT_MS})
  local isFree = true
  for n = last - take + 1, last do
    if redis.call('EXISTS', ARGV[2] .. string.format('%d', n)) == 1 then
      isFree = false
      break
    end
  end
  if isFree then return last - take + 1 end
end
return false
`,
);

const firstReply = z.number().nullable();

/**
 * Draws `count` numbers in a row for generated ids with this base, so that no stitch has such an id: somebody may have chosen one by
 * hand, or the counter was lost. @returns the first of them; null if too many are taken.
 */
export async function drawFreeNumbers(
  redis: RedisClient,
  keys: Keys,
  idBase: string,
  count: number,
): Promise<number | null> {
  const routeOf = (n: number | "") => keys.route(`${idBase}-${n}`);
  const sequence = keys.sequence(idBase);
  if (!isCluster(redis)) return firstReply.parse(await drawFree.call(redis, [sequence], [count, routeOf("")]));
  for (let round = 0; round < MOST_DRAWS; round++) {
    const passedOver = round < DRAWS_IN_A_ROW ? 0 : 2 ** (round - DRAWS_IN_A_ROW);
    const first = Number(await draw.call(redis, [sequence], [passedOver + count])) - count + 1;
    const taken = await Promise.all(Array.from({ length: count }, (_, index) => redis.exists(routeOf(first + index))));
    if (taken.every((exists) => exists === 0)) return first;
  }
  return null;
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
