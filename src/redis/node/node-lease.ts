import * as z from "zod";
import type { Eligibility, NodeFacts, NodeLoad, NodeStatus } from "../../domain/node/node.ts";
import type { RedisClient } from "../connection/client.ts";
import type { Keys } from "../keys.ts";
import { writeFormat } from "../format.ts";
import { defineScript } from "../connection/script.ts";
import { writeIndex } from "../unreadable.ts";
import { eligibilityField } from "./node-orders.ts";
import { redisTimeMs } from "./node-record.ts";

/**
 * Takes the id for a new incarnation, or refuses while another worker's lease runs.
 * KEYS meta. ARGV session, leaseMs, facts, status, least incarnation, then the sessions of this worker's earlier runs.
 * Returns {1, incarnation, now, leaseUntil, whether Masters had told that the node is silent} or {0, ms the other lease still runs}.
 * A key that is not a hash is nobody's lease.
 * One key, because a script over several keys is refused (TRYAGAIN) while a Redis Cluster moves their slot. Atomic: two
 * workers that register at once must not both hold the id, and no Master may forget the node meanwhile.
 */
const register = defineScript<[meta: string]>(
  "register",
  1,
  `
only(KEYS[1], 'hash')
local m = redis.call('HMGET', KEYS[1], 'incarnation', 'session', 'leaseUntil', 'left', 'dead', 'suspect')
local lease = tonumber(m[3] or 0) or 0
local told = math.max(tonumber(m[5] or 0) or 0, tonumber(m[6] or 0) or 0)
local free = not m[1] or m[4] or lease <= now or m[2] == ARGV[1]
for i = 6, #ARGV do free = free or m[2] == ARGV[i] end
if not free then return {0, lease - now} end
local incarnation = math.max(tonumber(m[1] or 0) or 0, tonumber(m[5] or 0) or 0, tonumber(ARGV[5])) + 1
local untilMs = now + tonumber(ARGV[2])
redis.call('HSET', KEYS[1], 'incarnation', incarnation, 'session', ARGV[1], 'leaseUntil', untilMs, 'startedAt', now,
  'beatAt', now, 'beats', 0, 'facts', ARGV[3], 'status', ARGV[4], 'published', 0)
redis.call('HDEL', KEYS[1], 'left', 'forgetting')
return {1, incarnation, now, untilMs, not m[4] and told > 0 and told >= (tonumber(m[1] or 0) or 0) and 1 or 0}
`,
);

/**
 * One heartbeat: renews the lease and publishes the status.
 * KEYS meta. ARGV session, incarnation, leaseMs, status, beats so far.
 * Returns {'ok', now, leaseUntil, beats, number of the last publication, eligibility or '', count of all tombstones that
 * Masters have ever written}; {'gone'} (Redis came back empty, or holds other data there); {'other', session, incarnation}
 * (the id does not belong to this incarnation here); {'older'} (Redis has older data than this worker's last beat);
 * {'lapsed'} (the lease ran out, or a Master declared the node dead).
 * One key (see `register`). Atomic: a lease that has run out, or that belongs to another worker, must never be renewed.
 */
const beat = defineScript<[meta: string]>(
  "beat",
  1,
  `
local m = redis.pcall('HMGET', KEYS[1], 'session', 'incarnation', 'leaseUntil', 'beats', 'left', 'dead', 'published',
  'eligibility', 'words')
if not m[1] then return {'gone'} end
if m[1] ~= ARGV[1] or m[2] ~= ARGV[2] then return {'other', m[1], tonumber(m[2] or 0) or 0} end
if not tonumber(m[3]) or not tonumber(m[4]) then return {'gone'} end
if tonumber(m[4]) < tonumber(ARGV[5]) then return {'older'} end
local dead = m[6] and tonumber(m[6]) and tonumber(m[6]) >= tonumber(ARGV[2])
if m[5] or dead or tonumber(m[3]) <= now then return {'lapsed'} end
local untilMs = now + tonumber(ARGV[3])
redis.call('HSET', KEYS[1], 'leaseUntil', untilMs, 'beatAt', now, 'beats', m[4] + 1, 'status', ARGV[4])
return {'ok', now, untilMs, m[4] + 1, tonumber(m[7] or 0), m[8] or '', tonumber(m[9] or 0)}
`,
);

/**
 * Publishes the load; it expires with the lease. KEYS status. ARGV incarnation, leaseMs, load.
 * Atomic: a late load of an earlier incarnation must not replace that of the present one.
 */
const publishLoad = defineScript<[status: string]>(
  "publish_load",
  1,
  `
only(KEYS[1], 'hash')
local by = redis.call('HGET', KEYS[1], 'incarnation')
if by and tonumber(by) and tonumber(by) > tonumber(ARGV[1]) then return 0 end
redis.call('HSET', KEYS[1], 'incarnation', ARGV[1], 'load', ARGV[3])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1
`,
);

/**
 * Ends the lease of a node that leaves. KEYS meta. ARGV session, incarnation. Returns now, or 0 if the id is not (or no
 * longer) this worker's.
 */
const leave = defineScript<[meta: string]>(
  "leave",
  1,
  `
local m = redis.call('HMGET', KEYS[1], 'session', 'incarnation')
if m[1] ~= ARGV[1] or m[2] ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[1], 'left', now, 'leaseUntil', now)
return now
`,
);

const registered = z.tuple([z.literal(1), z.number(), z.number(), z.number(), z.number()]);

const notRegistered = z.tuple([z.literal(0), z.number()]);

const leftReply = z.number();

const beatReply = z.tuple([
  z.literal("ok"),
  z.number(),
  z.number(),
  z.number(),
  z.number(),
  eligibilityField.or(z.literal("")),
  z.number(),
]);

const others = z.tuple([z.literal("other"), z.string(), z.number()]);

const notBeaten = z.tuple([z.enum(["gone", "older", "lapsed"])]);

export type Registration =
  | {
      readonly ok: true;
      readonly incarnation: number;
      readonly nowMs: number;
      readonly leaseUntilMs: number;
      /** Had Masters told that it is suspect or dead? */
      readonly wasSilent: boolean;
    }
  | { readonly ok: false; readonly leaseLeftMs: number };

export type Beat =
  | {
      readonly outcome: "ok";
      readonly nowMs: number;
      readonly leaseUntilMs: number;
      readonly beats: number;
      /** Number of the last publication that Redis has (see `publishStitches`). */
      readonly published: number;
      /** null if no Master has set it since the node registered with an empty Redis. */
      readonly eligibility: Eligibility | null;
      /** How many tombstones Masters have ever written for the node. If the count has grown, there is a new one to obey. */
      readonly tombstones: number;
    }
  /**
   * Here the id does not belong to this incarnation: another worker has it, or an earlier incarnation if Redis has older data.
   */
  | { readonly outcome: "other"; readonly session: string; readonly incarnation: number }
  | { readonly outcome: "gone" | "older" | "lapsed" };

export type Registering = {
  readonly session: string;
  /** Sessions of this worker's earlier runs. They are dead: the registration does not wait for their leases. */
  readonly formerSessions: readonly string[];
  readonly leaseMs: number;
  readonly facts: NodeFacts;
  readonly status: NodeStatus;
  readonly leastIncarnation: number;
};

export type Beating = {
  readonly session: string;
  readonly incarnation: number;
  readonly leaseMs: number;
  readonly status: NodeStatus;
  readonly load: NodeLoad;
  readonly beats: number;
  /** The caller's estimate of the end of the lease, for the index of leases. */
  readonly leaseUntilHintMs: number;
};

/**
 * Registers a worker under a node id. Repeating it with the same session gives the next incarnation.
 */
export async function registerNode(redis: RedisClient, keys: Keys, id: string, as: Registering): Promise<Registration> {
  // The pointers before the record: a node that can be read must also be listed, counted and considered in placement.
  const [askedAtMs] = await Promise.all([
    redisTimeMs(redis, keys.nodes),
    writeFormat(redis, keys),
    listNode(redis, keys, id),
  ]);
  await writeIndex(redis, keys.nodes, "zset", () => redis.zadd(keys.nodes, "NX", askedAtMs + as.leaseMs, id));
  const reply = await register.call(
    redis,
    [keys.nodeMeta(id)],
    [
      as.session,
      as.leaseMs,
      JSON.stringify(as.facts),
      JSON.stringify(as.status),
      as.leastIncarnation,
      ...as.formerSessions,
    ],
  );
  if (!Array.isArray(reply) || reply[0] !== 1) return { ok: false, leaseLeftMs: notRegistered.parse(reply)[1] };
  const [, incarnation, nowMs, leaseUntilMs, told] = registered.parse(reply);
  // The load that an earlier incarnation measured does not describe this one.
  const lease = () => redis.zadd(keys.nodes, leaseUntilMs, id);
  await Promise.all([writeIndex(redis, keys.nodes, "zset", lease), redis.del(keys.nodeStatus(id))]);
  return { ok: true, incarnation, nowMs, leaseUntilMs, wasSilent: told === 1 };
}

/**
 * Sends one heartbeat: one round trip, whatever the size of the cluster. It also puts the node into the index of leases
 * again: a Master that was forgetting the node may have removed it, or a failover may have lost the entry. `listNode` does
 * the same for the list of nodes.
 */
export async function beatNode(redis: RedisClient, keys: Keys, id: string, as: Beating): Promise<Beat> {
  // Sent one after the other in one turn of the event loop, so that they share a round trip. Only the first is awaited.
  const beaten = beat.call(
    redis,
    [keys.nodeMeta(id)],
    [as.session, as.incarnation, as.leaseMs, JSON.stringify(as.status), as.beats],
  );
  publishLoad
    .call(redis, [keys.nodeStatus(id)], [as.incarnation, as.leaseMs, JSON.stringify(as.load)])
    .catch(untilNextBeat);
  writeIndex(redis, keys.nodes, "zset", () => redis.zadd(keys.nodes, Math.round(as.leaseUntilHintMs), id)).catch(
    untilNextBeat,
  );
  const reply = await beaten;
  if (!Array.isArray(reply)) throw new Error("the heartbeat's script answered nothing that is known");
  if (reply[0] === "other") {
    const [outcome, session, incarnation] = others.parse(reply);
    return { outcome, session, incarnation };
  }
  if (reply[0] !== "ok") return { outcome: notBeaten.parse(reply)[0] };
  const [outcome, nowMs, leaseUntilMs, beats, published, eligibility, tombstones] = beatReply.parse(reply);
  return {
    outcome,
    nowMs,
    leaseUntilMs,
    beats,
    published,
    eligibility: eligibility === "" ? null : eligibility,
    tombstones,
  };
}

/**
 * A write that fails or hangs, because another shard is away, must not cost a lease that was renewed; the next beat repeats
 * the write. The load expires with the lease.
 */
function untilNextBeat(): void {}

/** Puts a node on the list of nodes. Safe to repeat. */
export async function listNode(redis: RedisClient, keys: Keys, id: string): Promise<void> {
  await writeIndex(redis, keys.nodeIds, "zset", () => redis.zadd(keys.nodeIds, 0, id));
}

/** Ends the lease because the node leaves. @returns false if another worker has the id. Safe to repeat. */
export async function leaveNode(
  redis: RedisClient,
  keys: Keys,
  id: string,
  { session, incarnation }: { session: string; incarnation: number },
): Promise<boolean> {
  const at = leftReply.parse(await leave.call(redis, [keys.nodeMeta(id)], [session, incarnation]));
  if (at === 0) return false;
  const left = () => redis.zadd(keys.nodes, -at, id);
  await Promise.all([writeIndex(redis, keys.nodes, "zset", left), redis.del(keys.nodeStatus(id))]);
  return true;
}
