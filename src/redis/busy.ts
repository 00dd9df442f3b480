import * as z from "zod";
import type { RedisClient } from "./client.ts";
import type { Keys } from "./keys.ts";
import { defineScript } from "./script.ts";

/**
 * Takes what a job of many steps works on, unless another has some of it. KEYS busy. ARGV job, scope, ….
 * Returns false where it has it now, or {job that is in the way, when that one took it}.
 * One contains another part by part: `shop.orders` contains `shop.orders.1.n1`.
 */
const take = defineScript<[busy: string]>(
  "take_scopes",
  1,
  `
local function inside(outer, inner) return inner == outer or string.sub(inner, 1, #outer + 1) == outer .. '.' end
local held = redis.call('HGETALL', KEYS[1])
for i = 1, #held, 2 do
  if held[i] ~= ARGV[1] then
    local at, scopes = string.match(held[i + 1], '^(%d+) (.*)$')
    for scope in string.gmatch(scopes, '[^ ]+') do
      for asked = 2, #ARGV do
        if inside(scope, ARGV[asked]) or inside(ARGV[asked], scope) then return {held[i], at} end
      end
    end
  end
end
local own = redis.call('HGET', KEYS[1], ARGV[1])
if own or #ARGV > 1 then redis.call('HSET', KEYS[1], ARGV[1], (own or now) .. ' ' .. table.concat(ARGV, ' ', 2)) end
return false
`,
);

const taken = z.tuple([z.string(), z.string()]).nullable();

/** The job that is in the way, and when it took what it works on. */
export type Holder = { readonly job: string; readonly sinceMs: number };

/** Takes scopes for a job of many steps (see `Plan.scopes`), beside those that it has; null where it has them now. Safe to repeat. */
export async function takeScopes(
  redis: RedisClient,
  keys: Keys,
  job: string,
  scopes: readonly string[],
): Promise<Holder | null> {
  const reply = taken.parse(await take.call(redis, [keys.busy], [job, ...scopes]));
  return reply === null ? null : { job: reply[0], sinceMs: Number(reply[1]) };
}

/** Gives back what a job had. Safe to repeat. */
export async function releaseScopes(redis: RedisClient, keys: Keys, job: string): Promise<void> {
  await redis.hdel(keys.busy, job);
}
