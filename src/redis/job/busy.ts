import * as z from "zod";
import type { RedisClient } from "../connection/client.ts";
import { voidDrafts } from "./drafts.ts";
import type { Keys } from "../keys.ts";
import { defineScript } from "../connection/script.ts";
import type { Right } from "../../domain/master-mode.ts";
import { KEPT_FIELD } from "../master-mode.ts";
import { NO_RIGHT, rightArgs, underRight } from "../right.ts";
import { readIndex, writeIndex } from "../unreadable.ts";

/** The parts of an entry: when the last draft took scopes, the drafts that hold them, the scopes. */
const ENTRY = "'^(%d+)|([^|]*)|(.*)$'";

/**
 * Takes the scopes that a job of many steps works on, unless another job holds some of them, and if the caller has the right to.
 * KEYS busy, mode. ARGV its right, job, draft, scope, ….
 * Returns false if the job has the scopes now, or {job that is in the way, ms since that job last took scopes}, or see
 * `NO_RIGHT`.
 * A scope contains another one part by part: `shop.orders` contains `shop.orders.1.n1`.
 * Atomic: of two jobs that overlap, only one may have the scopes. An entry that is not in this form holds nothing.
 */
const take = defineScript<[busy: string, mode: string]>(
  "take_scopes",
  2,
  `${NO_RIGHT}
local refused = no_right(KEYS[2])
if refused then return refused end
local job, draft, first = ARGV[RIGHT + 1], ARGV[RIGHT + 2], RIGHT + 3
local function inside(outer, inner) return inner == outer or string.sub(inner, 1, #outer + 1) == outer .. '.' end
local function joined(list, items)
  local all, known = {}, {}
  local function add(item)
    if known[item] then return end
    known[item], all[#all + 1] = true, item
  end
  for item in string.gmatch(list, '%S+') do add(item) end
  for _, item in ipairs(items) do add(item) end
  return table.concat(all, ' ')
end
only(KEYS[1], 'hash')
local held = redis.call('HGETALL', KEYS[1])
local drafts, has = '', ''
for i = 1, #held, 2 do
  local at, holding, scopes = string.match(held[i + 1], ${ENTRY})
  if held[i] == '${KEPT_FIELD}' then
    -- Keeps the key there while nothing is held.
  elseif not at then
    redis.call('HDEL', KEYS[1], held[i])
  elseif held[i] == job then
    drafts, has = holding, scopes
  else
    for scope in string.gmatch(scopes, '%S+') do
      for asked = first, #ARGV do
        if inside(scope, ARGV[asked]) or inside(ARGV[asked], scope) then return {held[i], now - at} end
      end
    end
  end
end
local scopes = {}
for asked = first, #ARGV do scopes[#scopes + 1] = ARGV[asked] end
redis.call('HSET', KEYS[1], job, now .. '|' .. joined(drafts, {draft}) .. '|' .. joined(has, scopes), '${KEPT_FIELD}', '')
return false
`,
);

/**
 * Releases the scopes that drafts hold. KEYS busy. ARGV job, draft, …. While another draft of the same job holds scopes,
 * they stay held.
 * Atomic: a draft that takes its scopes meanwhile must not lose them.
 */
const release = defineScript<[busy: string]>(
  "release_drafts",
  1,
  `
only(KEYS[1], 'hash')
local held = redis.call('HGET', KEYS[1], ARGV[1])
if not held then return 0 end
local at, drafts, scopes = string.match(held, ${ENTRY})
if not at then return redis.call('HDEL', KEYS[1], ARGV[1]) end
local gone, left = {}, {}
for i = 2, #ARGV do gone[ARGV[i]] = true end
for draft in string.gmatch(drafts, '%S+') do if not gone[draft] then left[#left + 1] = draft end end
if #left == 0 then return redis.call('HDEL', KEYS[1], ARGV[1]) end
redis.call('HSET', KEYS[1], ARGV[1], at .. '|' .. table.concat(left, ' ') .. '|' .. scopes)
return 0
`,
);

const taken = z.tuple([z.string(), z.number()]).nullable();

/** The job that is in the way, and how long ago one of its drafts last took scopes. */
type Holder = { readonly job: string; readonly heldMs: number };

/**
 * Takes scopes for a draft of a job of many steps (see `Plan.scopes`), in addition to those that the job has. @returns `holder`: null
 * if the job has the scopes now, else the job that is in the way. `atOnce`: on a single Redis, commands that were issued after this
 * were carried out after it; not if the mode of the Masters had to be recorded first. Safe to repeat. Two drafts of one job (with the
 * same idempotency key) may both hold scopes.
 */
export async function takeScopes(
  redis: RedisClient,
  keys: Keys,
  right: Right,
  job: string,
  draft: string,
  scopes: readonly string[],
): Promise<{ readonly holder: Holder | null; readonly atOnce: boolean }> {
  let calls = 0;
  const reply = await underRight(redis, keys, right, () => {
    calls += 1;
    return take.callInOrder(redis, [keys.busy, keys.masterMode], [...rightArgs(keys, right), job, draft, ...scopes]);
  });
  const holder = taken.parse(reply);
  return { holder: holder === null ? null : { job: holder[0], heldMs: holder[1] }, atOnce: calls === 1 };
}

/** Releases the scopes of a job that has ended. Safe to repeat. */
export async function releaseScopes(redis: RedisClient, keys: Keys, job: string): Promise<void> {
  await writeIndex(redis, keys.busy, "hash", () => redis.hdel(keys.busy, job));
}

/**
 * Releases the scopes that drafts of a job hold. While another draft of the job holds scopes, they stay held. Safe to repeat.
 */
export async function releaseDrafts(
  redis: RedisClient,
  keys: Keys,
  job: string,
  drafts: readonly string[],
): Promise<void> {
  await release.call(redis, [keys.busy], [job, ...drafts]);
}

/**
 * Gives up the drafts of a job that has no record, and releases their scopes. The drafts are voided first, in the key of
 * the record: otherwise a draft that was only slow would be accepted while other jobs work on its scopes.
 * @returns false if the job has a record by now: then nothing was done.
 */
export async function giveUpDrafts(redis: RedisClient, keys: Keys, job: string): Promise<boolean> {
  // Read before the drafts are voided: a draft that holds scopes at this moment has begun before, so it is voided, too.
  const entry = await readIndex(redis, keys.busy, "hash", redis.hget(keys.busy, job), null);
  if (!(await voidDrafts(redis, keys, job))) return false;
  const drafts = entry?.split("|")[1]?.split(" ") ?? [];
  if (drafts.length > 0) await releaseDrafts(redis, keys, job, drafts);
  return true;
}
