import * as z from "zod";
import {
  type Candidacy,
  type Election,
  electionId,
  type Held,
  type LeaderLease,
  type Won,
} from "../domain/election.ts";
import { type ChosenMaster, LEASE_IN_REDIS, settingOf } from "../domain/master-mode.ts";
import type { RedisClient } from "./connection/client.ts";
import { RedisRefused } from "./connection/connection.ts";
import { REPLICATION_ID } from "./connection/replication-id.ts";
import { defineScript } from "./connection/script.ts";
import type { Keys } from "./keys.ts";
import { inMode, KEPT_FIELD, WRONG_LEASE } from "./master-mode.ts";

/**
 * Lua: the current election. `current_election(key)` returns nil if there is none, or a table with `id`, `epoch`, `n`, `holder` and
 * `until_ms`. See `currentElection`: the lease is void if Redis's replication id has changed since. A lease that cannot be read is none.
 */
export const ELECTION = `${REPLICATION_ID}
local function current_election(key)
  local l = redis.pcall('HMGET', key, 'election', 'epoch', 'n', 'holder', 'until', 'replid')
  if l.err or not (l[1] and l[4] and l[6]) or #l[1] ~= 32 then return nil end
  local epoch, n, until_ms = tonumber(l[2] or ''), tonumber(l[3] or ''), tonumber(l[5] or '')
  if not (epoch and n and until_ms) or l[6] ~= replication_id() then return nil end
  return {id = l[1], epoch = epoch, n = n, holder = l[4], until_ms = until_ms}
end
`;

type LeaseKeys = [lease: string, mode: string];
const leaseKeys = (keys: Keys): LeaseKeys => [keys.leaderLease, keys.masterMode];

/**
 * Elects a candidate: see `elect` in domain/election.ts, whose rule this is. KEYS lease, mode. ARGV place, id, holder, lease in ms,
 * the epoch that the new one must be above; and, if another store has decided the election: its number there, and that store's id.
 * Then the running lease is not asked; but an election that is older than the last one is refused.
 * Returns {'won', epoch, n, id and holder of the election before or ''}; {'held', ms left}; {'older'}; {'unknown'} if Redis does not
 * tell its replication id; or see `WRONG_LEASE`.
 * Atomic: of two candidates one wins.
 */
const electScript = defineScript<LeaseKeys>(
  "elect",
  2,
  `${WRONG_LEASE}${ELECTION}
local wrong = wrong_lease(KEYS[2], ARGV[1])
if wrong then return wrong end
local replid = replication_id()
if not replid then return {'unknown'} end
only(KEYS[1], 'hash')
local m = redis.call('HMGET', KEYS[2], 'epoch', 'store')
local epoch, above = tonumber(m[1] or 0) or 0, tonumber(ARGV[5])
local last = current_election(KEYS[1])
local goes_on = last and last.epoch == epoch and epoch > above
local n = 1
if not ARGV[6] then
  if goes_on and last.until_ms > now then return {'held', last.until_ms - now} end
  if goes_on then n = last.n + 1 end
else
  n = tonumber(ARGV[6])
  goes_on = goes_on and m[2] == ARGV[7]
  if goes_on and n <= last.n then return {'older'} end
  redis.call('HSET', KEYS[2], 'store', ARGV[7])
end
if not goes_on then epoch = math.max(epoch + 1, above + 1, now) end
local before = redis.call('HMGET', KEYS[1], 'election', 'holder', 'until')
if not before[1] or not before[2] or before[3] == '0' then before = {'', ''} end
local order = string.format('%.0f', epoch)
redis.call('HSET', KEYS[2], 'epoch', order)
redis.call('HSET', KEYS[1], '${KEPT_FIELD}', '', 'election', ARGV[2], 'holder', ARGV[3], 'epoch', order, 'n', string.format('%.0f', n),
  'until', now + ARGV[4], 'replid', replid)
return {'won', epoch, n, before[1], before[2]}
`,
);

/**
 * Renews a lease. KEYS lease, mode. ARGV place, id, lease in ms. Returns 1, or 0 if it is lost; or see `WRONG_LEASE`.
 * A lease that has run out is renewed, too: nobody has been elected since.
 */
const renewScript = defineScript<LeaseKeys>(
  "renew_lease",
  2,
  `${WRONG_LEASE}${ELECTION}
local wrong = wrong_lease(KEYS[2], ARGV[1])
if wrong then return wrong end
local last = current_election(KEYS[1])
if not last or last.id ~= ARGV[2] or last.epoch ~= tonumber(redis.call('HGET', KEYS[2], 'epoch') or 0) then return 0 end
redis.call('HSET', KEYS[1], 'until', now + ARGV[3])
return 1
`,
);

/** Gives a lease back. KEYS lease. ARGV id. The election stays the current one until the next. */
const giveBackScript = defineScript<[lease: string]>(
  "give_lease_back",
  1,
  `
if redis.pcall('HGET', KEYS[1], 'election') ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'until', '0')
return 1
`,
);

/**
 * Reads the current election. KEYS revision. ARGV the lease's key. Returns false, or {id, epoch, n, holder, ms left of the lease}.
 * The key is never missing once a leader was elected: if it is, it is on its way to another server of a Redis Cluster.
 * The lease's key is in the same slot, and not declared: Redis requires the right to write each declared key, and a node's user may
 * not write the lease (docs/security.md).
 */
const readScript = defineScript<[revision: string]>(
  "read_election",
  1,
  `${ELECTION}
if redis.call('EXISTS', ARGV[1]) == 0 then return {} end
local e = current_election(ARGV[1])
return e and {e.id, e.epoch, e.n, e.holder, e.until_ms - now} or false
`,
);

const electReply = z.union([
  z.tuple([z.literal("won"), z.number(), z.number(), z.string(), z.string()]),
  z.tuple([z.literal("held"), z.number()]),
  z.tuple([z.literal("older")]),
  z.tuple([z.literal("unknown")]),
]);
const renewReply = z.literal([0, 1]);
const readReply = z
  .union([z.tuple([electionId, z.number(), z.number(), z.string(), z.number()]), z.tuple([])])
  .nullable();

/**
 * The current election, for what compares it; null if there is none. One round trip.
 * @throws TRYAGAIN while a Redis Cluster moves the lease to another server: nobody knows then.
 */
export async function readElection(redis: RedisClient, keys: Keys): Promise<Election | null> {
  const reply = readReply.parse(await readScript.call(redis, [keys.revision], [keys.leaderLease]));
  if (reply === null) return null;
  if (reply.length === 0) throw new Error("TRYAGAIN the lease of the leader is on its way to another Redis");
  const [id, epoch, n, holder] = reply;
  return { id, epoch, n, holder };
}

/** The election of the Master that leads now, for people; null if there is none, or its lease has run out. */
export async function readLeader(redis: RedisClient, keys: Keys): Promise<Election | null> {
  const reply = readReply.parse(await readScript.call(redis, [keys.revision], [keys.leaderLease]));
  if (reply === null || reply.length === 0) return null;
  const [id, epoch, n, holder, leftMs] = reply;
  return leftMs > 0 ? { id, epoch, n, holder } : null;
}

/** An election that another store has decided: its number there, which only grows, and the id of that store. */
export type DecidedElsewhere = { readonly n: number; readonly store: string };

type Context = { readonly redis: RedisClient; readonly keys: Keys; readonly chosen: ChosenMaster };

/**
 * Makes a candidate the leader, unless the lease of another one runs (see `LeaderLease.win`).
 * @param decided if another store has decided the election: then `null` says that a newer one is known.
 */
export async function electLeader(
  { redis, keys, chosen }: Context,
  { id, holder, leaseMs, above }: Candidacy,
  decided: DecidedElsewhere | null = null,
): Promise<Won | Held | null> {
  const args = [chosen.lease ?? LEASE_IN_REDIS, id, holder, leaseMs, above];
  const reply = electReply.parse(
    await inMode(redis, keys, chosen, () =>
      electScript.call(redis, leaseKeys(keys), decided === null ? args : [...args, decided.n, decided.store]),
    ),
  );
  switch (reply[0]) {
    case "won": {
      const [, epoch, n, beforeId, before] = reply;
      return { election: { id, holder, epoch, n }, before: beforeId === "" ? null : { id: beforeId, holder: before } };
    }
    case "held":
      return { election: null, leftMs: reply[1] };
    case "older":
      return null;
    case "unknown":
      throw new RedisRefused(
        "Redis does not tell its replication id (INFO replication: master_replid), and without it a failover could bring an old " +
          `leader back. Take another Redis, or another mode than ${settingOf(chosen)}`,
      );
  }
}

/** Renews the lease of an election. @returns false if it is lost. */
export async function renewLease(
  { redis, keys, chosen }: Context,
  { id }: Election,
  leaseMs: number,
): Promise<boolean> {
  const args = [chosen.lease ?? LEASE_IN_REDIS, id, leaseMs];
  const reply = await inMode(redis, keys, chosen, () => renewScript.call(redis, leaseKeys(keys), args));
  return renewReply.parse(reply) === 1;
}

export async function giveLeaseBack({ redis, keys }: Omit<Context, "chosen">, { id }: Election): Promise<void> {
  await giveBackScript.call(redis, [keys.leaderLease], [id]);
}

/** The leader's lease in Redis. */
export function redisLease(context: Context): LeaderLease {
  return {
    place: LEASE_IN_REDIS,
    win: async (candidacy) => (await electLeader(context, candidacy)) ?? { election: null, leftMs: 0 },
    renew: (election, leaseMs) => renewLease(context, election, leaseMs),
    giveBack: (election) => giveLeaseBack(context, election),
  };
}
