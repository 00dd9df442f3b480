import * as z from "zod";
import type { Right } from "../domain/master-mode.ts";
import type { RedisClient } from "./connection/client.ts";
import { defineScript, noNumber } from "./connection/script.ts";
import type { Keys } from "./keys.ts";
import { NO_RIGHT, rightArgs, underRight } from "./right.ts";

/**
 * Draws the next revision, if the caller has the right to. KEYS revision, mode. ARGV its right. Returns the revision, or see
 * `NO_RIGHT`.
 *
 * If the key does not hold a number, the script goes on from the time in hundredths of a millisecond. No counter gets that far,
 * nor one that continued from such a time: every node would refuse a revision that was drawn before. It has 15 digits, as many
 * as a revision may have.
 * Atomic: the mode may change, or another leader be elected, between a comparison and a draw.
 */
const draw = defineScript<[revision: string, mode: string]>(
  "draw_revision",
  2,
  `${NO_RIGHT}
local refused = no_right(KEYS[2])
if refused then return refused end
local drawn = redis.pcall('INCR', KEYS[1])
if type(drawn) ~= 'table' then return drawn end
if not ${noNumber("drawn.err")} then return drawn end
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

/**
 * The next revision of the cluster: higher than all before.
 * @throws RequestError `wrong_mode` if the cluster's Masters have another mode, StaleLeader if another leader has been elected:
 *   then nothing is drawn.
 */
export async function drawRevision(redis: RedisClient, keys: Keys, right: Right): Promise<number> {
  const reply = await underRight(redis, keys, right, () =>
    draw.call(redis, [keys.revision, keys.masterMode], rightArgs(keys, right)),
  );
  return z.number().parse(reply);
}

/** After a Redis that came back older, new commands must not draw revisions that nodes have already applied. */
export async function raiseRevision(redis: RedisClient, keys: Keys, least: number): Promise<void> {
  if (least > 0) await raise.call(redis, [keys.revision], [least]);
}
