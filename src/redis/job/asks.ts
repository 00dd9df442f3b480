import * as z from "zod";
import type { RedisClient } from "../connection/client.ts";
import { defineScript } from "../connection/script.ts";
import type { Keys } from "../keys.ts";

/** How long a refusal is kept for the API that asked. */
const REFUSED_KEPT_MS = 60_000;
/** How long the fields of a request are kept after its time is up: longer than its API takes to withdraw it. */
const ASKED_KEPT_MS = 60_000;

/**
 * The requests of APIs for a job, in the mode `leader`. A request is a field `ask:<nonce>` of the job, beside the record that it asks
 * for: so exactly one of three things happens to it. It is carried out (`create_job` requires the field), refused, or withdrawn.
 * The masters' queue only carries it: an entry may be lost, or come twice, or late.
 */

/** Lua: lets the key live for at least `ms` more; never makes that shorter. A record lives until its job ends. */
const KEEP = `
local function keep(key, ms)
  if redis.call('HEXISTS', key, 'record') == 0 and redis.call('PTTL', key) < ms then redis.call('PEXPIRE', key, ms) end
end
`;

/**
 * Asks for a job. KEYS job. ARGV nonce, how long to ask, ms to keep it after that. Returns 'known' if there is a record, else 'asked'.
 */
const askScript = defineScript<[job: string]>(
  "ask_for_job",
  1,
  `${KEEP}
if redis.call('HEXISTS', KEYS[1], 'record') == 1 then return 'known' end
redis.call('HSET', KEYS[1], 'ask:' .. ARGV[1], now + ARGV[2])
keep(KEYS[1], ARGV[2] + ARGV[3])
return 'asked'
`,
);

/**
 * Refuses a request. KEYS job. ARGV nonce, the refusal, ms to keep it. Returns 'refused'; 'void' if there is a record, or nobody asks
 * any more.
 */
const refuseScript = defineScript<[job: string]>(
  "refuse_job",
  1,
  `${KEEP}
if redis.call('HEXISTS', KEYS[1], 'record') == 1 then return 'void' end
if redis.call('HDEL', KEYS[1], 'ask:' .. ARGV[1]) == 0 then return 'void' end
redis.call('HSET', KEYS[1], 'refused:' .. ARGV[1], ARGV[2])
keep(KEYS[1], tonumber(ARGV[3]))
redis.call('PUBLISH', KEYS[1] .. ':ended', '')
return 'refused'
`,
);

/**
 * Reads what became of a request, once if it was refused, and withdraws it if nothing has yet. KEYS job. ARGV nonce, '1' to withdraw.
 * Returns {'record', '1' if this request created it}, {'refused', refusal}, {'open'} or {'withdrawn'}.
 */
const lookScript = defineScript<[job: string]>(
  "look_at_ask",
  1,
  `
local j = redis.call('HMGET', KEYS[1], 'record', 'asked', 'refused:' .. ARGV[1])
if j[1] then
  redis.call('HDEL', KEYS[1], 'ask:' .. ARGV[1])
  return {'record', j[2] == ARGV[1] and '1' or '0'}
end
if j[3] then
  redis.call('HDEL', KEYS[1], 'refused:' .. ARGV[1])
  return {'refused', j[3]}
end
if ARGV[2] ~= '1' then return {'open'} end
redis.call('HDEL', KEYS[1], 'ask:' .. ARGV[1])
return {'withdrawn'}
`,
);

const lookReply = z.union([
  z.tuple([z.literal("record"), z.enum(["0", "1"])]),
  z.tuple([z.literal("refused"), z.string()]),
  z.tuple([z.enum(["open", "withdrawn"])]),
]);

/** @returns "known" if the job has a record already: then nothing is asked. */
export async function askForJob(
  redis: RedisClient,
  keys: Keys,
  job: string,
  nonce: string,
  askMs: number,
): Promise<"asked" | "known"> {
  return z.enum(["asked", "known"]).parse(await askScript.call(redis, [keys.job(job)], [nonce, askMs, ASKED_KEPT_MS]));
}

/** Does anybody ask for the job under this nonce? Its time may be up: then the job is not created (see `createJob`). */
export async function isAskedFor(redis: RedisClient, keys: Keys, job: string, nonce: string): Promise<boolean> {
  return (await redis.hexists(keys.job(job), `ask:${nonce}`)) === 1;
}

/** Refuses a request, unless the job has a record, or nobody asks any more. Safe to repeat. */
export async function refuseJob(
  redis: RedisClient,
  keys: Keys,
  job: string,
  nonce: string,
  refusal: string,
): Promise<void> {
  await refuseScript.call(redis, [keys.job(job)], [nonce, refusal, REFUSED_KEPT_MS]);
}

export type AskResult =
  | { readonly kind: "record"; readonly isOwn: boolean }
  | { readonly kind: "refused"; readonly refusal: string }
  | { readonly kind: "open" | "withdrawn" };

/** What became of a request. @param withdraw if nothing has yet, withdraw it: then it is never carried out. */
export async function lookAtAsk(
  redis: RedisClient,
  keys: Keys,
  job: string,
  nonce: string,
  withdraw: boolean,
): Promise<AskResult> {
  const [kind, fact] = lookReply.parse(await lookScript.call(redis, [keys.job(job)], [nonce, withdraw ? "1" : "0"]));
  if (kind === "record") return { kind, isOwn: fact === "1" };
  return kind === "refused" ? { kind, refusal: fact } : { kind };
}
