import * as z from "zod";
import {
  ELIGIBILITIES,
  type NodeFacts,
  type NodeLoad,
  type NodeRecord,
  type NodeStatus,
  nodeFacts,
  nodeLoad,
  nodeStatus,
} from "../domain/node.ts";
import type { Eligibility } from "../domain/resources.ts";
import type { Revision } from "../domain/revision.ts";
import type { RedisClient } from "./client.ts";
import type { Keys } from "./keys.ts";
import { isCluster } from "./connection.ts";
import { defineScript } from "./script.ts";
import { inside, type OnUnreadable, refuse, UnreadableRecord, whyUnreadable } from "./unreadable.ts";

/**
 * Takes the id for a new incarnation, or refuses while another worker's lease runs.
 * KEYS meta, status, orders. ARGV session, leaseMs, facts, status, least incarnation, then sessions of former workers known
 * to be dead.
 * Returns {1, incarnation, now, leaseUntil, eligibility} or {0, ms the other lease still runs}.
 * Atomic: two workers that register at once must not both hold the id.
 */
const register = defineScript<[meta: string, status: string, orders: string]>(
  "register",
  3,
  `
local m = redis.call('HMGET', KEYS[1], 'incarnation', 'session', 'leaseUntil', 'left')
local lease = tonumber(m[3] or 0)
local free = not m[1] or m[4] or lease <= now or m[2] == ARGV[1]
for i = 6, #ARGV do free = free or m[2] == ARGV[i] end
if not free then return {0, lease - now} end
local incarnation = math.max(tonumber(m[1] or 0), tonumber(ARGV[5])) + 1
local untilMs = now + tonumber(ARGV[2])
redis.call('HSET', KEYS[1], 'incarnation', incarnation, 'session', ARGV[1], 'leaseUntil', untilMs, 'startedAt', now,
  'beatAt', now, 'beats', 0, 'facts', ARGV[3], 'status', ARGV[4])
redis.call('HDEL', KEYS[1], 'left')
redis.call('DEL', KEYS[2])
return {1, incarnation, now, untilMs, redis.call('HGET', KEYS[3], 'eligibility') or 'eligible'}
`,
);

/**
 * One heartbeat: renews the lease and publishes the status.
 * KEYS meta, status, orders. ARGV session, leaseMs, status, load, beats so far.
 * Returns {'ok', now, leaseUntil, beats, eligibility, tombstones so far}, or {'gone'} (Redis came back empty), {'older'} (or older than this
 * worker's last beat), {'lapsed'} (the lease ran out), {'fenced'} (another worker has the id).
 * Atomic: a lease that has run out, or is another's, must never be renewed.
 */
const beat = defineScript<[meta: string, status: string, orders: string]>(
  "beat",
  3,
  `
local m = redis.call('HMGET', KEYS[1], 'session', 'leaseUntil', 'beats', 'left')
if not m[1] then return {'gone'} end
if m[1] ~= ARGV[1] then return {'fenced'} end
if tonumber(m[3]) < tonumber(ARGV[5]) then return {'older'} end
if m[4] or tonumber(m[2]) <= now then return {'lapsed'} end
local untilMs = now + tonumber(ARGV[2])
redis.call('HSET', KEYS[1], 'leaseUntil', untilMs, 'beatAt', now, 'beats', m[3] + 1, 'status', ARGV[3])
redis.call('HSET', KEYS[2], 'load', ARGV[4])
redis.call('PEXPIRE', KEYS[2], ARGV[2])
local o = redis.call('HMGET', KEYS[3], 'eligibility', 'tombstones')
return {'ok', now, untilMs, m[3] + 1, o[1] or 'eligible', tonumber(o[2] or 0)}
`,
);

/** Leaves: KEYS meta, status. ARGV session. Returns now, or 0 where the id is not ours (any more). */
const leave = defineScript<[meta: string, status: string]>(
  "leave",
  2,
  `
if redis.call('HGET', KEYS[1], 'session') ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'left', now, 'leaseUntil', now)
redis.call('DEL', KEYS[2])
return now
`,
);

/**
 * Sets eligibility as a Master's order. KEYS orders. ARGV eligibility, revision, wave.
 * Returns 1 changed, 0 it was so, -1 a newer command, or a later wave of this one, has decided. Repeating it changes nothing,
 * and has the same answer: whoever wrote it the first time may have died before it told.
 */
const setEligibility = defineScript<[orders: string]>(
  "set_eligibility",
  1,
  `
local o = redis.call('HMGET', KEYS[1], 'eligibility', 'eligibilityRevision', 'eligibilityWave', 'eligibilityBefore')
local revision, wave = tonumber(o[2] or 0), tonumber(o[3] or 0)
if revision > tonumber(ARGV[2]) or (revision == tonumber(ARGV[2]) and wave > tonumber(ARGV[3])) then return -1 end
local repeated = revision == tonumber(ARGV[2]) and wave == tonumber(ARGV[3])
local before = (repeated and o[4]) or o[1] or 'eligible'
redis.call('HSET', KEYS[1], 'eligibility', ARGV[1], 'eligibilityRevision', ARGV[2], 'eligibilityWave', ARGV[3],
  'eligibilityBefore', before)
if ARGV[1] == 'eligible' then redis.call('HSET', KEYS[1], 'uncordonedBy', ARGV[2]) end
if before == ARGV[1] then return 0 end
return 1
`,
);

// Made once: a schema costs more to make than to use.
const eligibilityField = z.enum(ELIGIBILITIES);
const registered = z.tuple([z.literal(1), z.number(), z.number(), z.number(), eligibilityField]);
const notRegistered = z.tuple([z.literal(0), z.number()]);
const leftReply = z.number();
const beaten = z.tuple([z.literal("ok"), z.number(), z.number(), z.number(), eligibilityField, z.number()]);
const notBeaten = z.tuple([z.enum(["gone", "older", "lapsed", "fenced"])]);

export type Registration =
  | {
      readonly ok: true;
      readonly incarnation: number;
      readonly nowMs: number;
      readonly leaseUntilMs: number;
      readonly eligibility: Eligibility;
    }
  | { readonly ok: false; readonly leaseLeftMs: number };

export type Beat =
  | {
      readonly outcome: "ok";
      readonly nowMs: number;
      readonly leaseUntilMs: number;
      readonly beats: number;
      readonly eligibility: Eligibility;
      /** How many tombstones Masters have left for the node, ever: where that has grown, there is one to obey. */
      readonly tombstones: number;
    }
  | { readonly outcome: "gone" | "older" | "lapsed" | "fenced" };

/** Registers a worker under a node id. Repeating it with the same session gives the next incarnation. */
export async function registerNode(
  redis: RedisClient,
  keys: Keys,
  id: string,
  as: {
    session: string;
    formerSessions: readonly string[];
    leaseMs: number;
    facts: NodeFacts;
    status: NodeStatus;
    leastIncarnation: number;
  },
): Promise<Registration> {
  // The pointers before the record: a node that can be read must be listed, placed on and counted too. A beat puts
  // right only a count that is there.
  const [askedAtMs] = await Promise.all([redisTimeMs(redis, keys.nodes), redis.zadd(keys.nodeIds, 0, id)]);
  await redis.zadd(keys.nodes, "NX", askedAtMs + as.leaseMs, id);
  const reply = await register.call(
    redis,
    [keys.nodeMeta(id), keys.nodeStatus(id), keys.nodeOrders(id)],
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
  const [, incarnation, nowMs, leaseUntilMs, eligibility] = registered.parse(reply);
  await redis.zadd(keys.nodes, leaseUntilMs, id);
  return { ok: true, incarnation, nowMs, leaseUntilMs, eligibility };
}

/** One round trip, whatever the size of the cluster. `leaseUntilHintMs`: the caller's estimate, for the index. */
export async function beatNode(
  redis: RedisClient,
  keys: Keys,
  id: string,
  as: { session: string; leaseMs: number; status: NodeStatus; load: NodeLoad; beats: number; leaseUntilHintMs: number },
): Promise<Beat> {
  const [reply] = await Promise.all([
    beat.call(
      redis,
      [keys.nodeMeta(id), keys.nodeStatus(id), keys.nodeOrders(id)],
      [as.session, as.leaseMs, JSON.stringify(as.status), JSON.stringify(as.load), as.beats],
    ),
    redis.zadd(keys.nodes, "XX", Math.round(as.leaseUntilHintMs), id),
  ]);
  if (Array.isArray(reply) && reply[0] !== "ok") return { outcome: notBeaten.parse(reply)[0] };
  const [outcome, nowMs, leaseUntilMs, beats, eligibility, tombstones] = beaten.parse(reply);
  return { outcome, nowMs, leaseUntilMs, beats, eligibility, tombstones };
}

/** Ends the lease of its own will. @returns false where another worker has the id. Safe to repeat. */
export async function leaveNode(redis: RedisClient, keys: Keys, id: string, session: string): Promise<boolean> {
  const at = leftReply.parse(await leave.call(redis, [keys.nodeMeta(id), keys.nodeStatus(id)], [session]));
  if (at === 0) return false;
  await redis.zadd(keys.nodes, -at, id);
  return true;
}

/** @returns "superseded" where a newer command has decided. Safe to repeat. */
export async function orderEligibility(
  redis: RedisClient,
  keys: Keys,
  id: string,
  eligibility: Eligibility,
  { revision, wave }: Revision,
): Promise<"changed" | "unchanged" | "superseded"> {
  const reply = await setEligibility.call(redis, [keys.nodeOrders(id)], [eligibility, revision, wave]);
  return reply === 1 ? "changed" : reply === 0 ? "unchanged" : "superseded";
}

/** What Masters have ordered of a node. */
export async function readEligibility(redis: RedisClient, keys: Keys, id: string): Promise<Eligibility> {
  return eligibilityField.parse((await redis.hget(keys.nodeOrders(id), "eligibility")) ?? "eligible");
}

/**
 * Reads nodes. KEYS meta, status, orders of each.
 * Returns of each false, or as JSON [incarnation, leaseUntil, left, startedAt, beatAt, facts, status, load, eligibility, dead,
 * uncordonedBy, now].
 * A script, because what a page costs is the number of commands: three a node take the reader three times as long. JSON,
 * because one text is read in a fraction of the time of ten strings; one for each node, so that what a node has written of
 * itself is taken for nothing of another's. Each field begins a line, so that the one that is no JSON can be found.
 */
const READ_NODES = `
local nodes = {}
for i = 1, #KEYS, 3 do
  local node = redis.call('HMGET', KEYS[i], 'incarnation', 'leaseUntil', 'left', 'startedAt', 'beatAt', 'facts', 'status')
  if node[1] then
    for f = 2, 7 do node[f] = node[f] or 'null' end
    node[8] = redis.call('HGET', KEYS[i + 1], 'load') or 'null'
    local orders = redis.call('HMGET', KEYS[i + 2], 'eligibility', 'dead', 'uncordonedBy')
    node[9], node[10], node[11] = '"' .. (orders[1] or 'eligible') .. '"', orders[2] or 'null', orders[3] or 0
    node[12] = now
    nodes[#nodes + 1] = '[' .. table.concat(node, ',\\n') .. ']'
  else
    nodes[#nodes + 1] = false
  end
end
return nodes
`;
const readOne = defineScript<[meta: string, status: string, orders: string]>("read_node", 3, READ_NODES);
const readMany = defineScript<string[]>("read_nodes", null, READ_NODES);
/** Nodes in one call of the script: half a millisecond that others wait for Redis. */
const READ_AT_ONCE = 100;

const whole = z.int();
const nodeFields = z.tuple([
  whole,
  whole,
  whole.nullable(),
  whole,
  whole,
  nodeFacts,
  nodeStatus,
  nodeLoad.nullable(),
  eligibilityField,
  whole.nullable(),
  whole,
  whole,
]);
/** Which of the node's keys has each of them, and under which name. */
const FIELDS = [
  ["meta", "incarnation"],
  ["meta", "leaseUntil"],
  ["meta", "left"],
  ["meta", "startedAt"],
  ["meta", "beatAt"],
  ["meta", "facts"],
  ["meta", "status"],
  ["status", "load"],
  ["orders", "eligibility"],
  ["orders", "dead"],
  ["orders", "uncordonedBy"],
] as const;
const nodesReply = z.array(z.string().nullable());

/**
 * Reads nodes; null for one that there is not, and for one that cannot be read, where `onUnreadable` bears that. One round
 * trip.
 */
export async function readNodes(
  redis: RedisClient,
  keys: Keys,
  ids: readonly string[],
  onUnreadable: OnUnreadable = refuse,
): Promise<(NodeRecord | null)[]> {
  const keysOf = (id: string) => [keys.nodeMeta(id), keys.nodeStatus(id), keys.nodeOrders(id)] as const;
  const atOnce = isCluster(redis) ? 1 : READ_AT_ONCE;
  const parts = Array.from({ length: Math.ceil(ids.length / atOnce) }, (_, part) =>
    ids.slice(part * atOnce, (part + 1) * atOnce),
  );
  // Each part is taken apart while Redis is at the next.
  const read = await Promise.all(
    parts.map(async (part) => {
      const [only] = part;
      const reply =
        part.length === 1 && only !== undefined
          ? await readOne.call(redis, [...keysOf(only)], [])
          : await readMany.callApart(redis, part.flatMap(keysOf), []);
      return nodesReply.parse(reply).map((text, index) => {
        const id = part[index] ?? "";
        if (text === null) return null;
        try {
          return nodeOf(id, nodeFields.parse(JSON.parse(text)));
        } catch (error) {
          onUnreadable(unreadableNode(keys, id, text, error));
          return null;
        }
      });
    }),
  );
  return read.flat();
}

function unreadableNode(keys: Keys, id: string, text: string, error: unknown): UnreadableRecord {
  const { path, reason } = whyUnreadable(error);
  const [index = text.slice(1, -1).split(",\n").findIndex(isNotJson), ...rest] = path;
  const [of, field] = FIELDS[Number(index)] ?? ["meta", "*"];
  const key = { meta: keys.nodeMeta(id), status: keys.nodeStatus(id), orders: keys.nodeOrders(id) }[of];
  return new UnreadableRecord(id, key, field, inside(rest, reason));
}

function isNotJson(text: string): boolean {
  try {
    JSON.parse(text);
    return false;
  } catch {
    return true;
  }
}

function nodeOf(id: string, fields: z.output<typeof nodeFields>): NodeRecord {
  const [incarnation, leaseUntilMs, leftAtMs, startedAtMs, lastBeatAtMs, ...described] = fields;
  const [facts, status, load, eligibility, dead, uncordonedBy, readAtMs] = described;
  return {
    id,
    incarnation,
    leaseUntilMs,
    leftAtMs,
    startedAtMs,
    lastBeatAtMs,
    facts,
    status,
    load,
    eligibility,
    uncordonedBy,
    deadIncarnation: dead,
    readAtMs,
  };
}

/** Node ids after `after` in the order of ids, at most `limit`. */
export function listNodeIds(redis: RedisClient, keys: Keys, after: string | null, limit: number): Promise<string[]> {
  return redis.zrangebylex(keys.nodeIds, after === null ? "-" : `(${after}`, "+", "LIMIT", 0, limit);
}

/** How many nodes there are by liveness, from the index of leases: four counts, whatever the cluster's size. */
export async function countNodes(redis: RedisClient, keys: Keys, nowMs: number, deadAfterMs: number) {
  const deadBefore = nowMs - deadAfterMs;
  const [alive, suspect, dead, left] = await Promise.all([
    redis.zcount(keys.nodes, `(${nowMs}`, "+inf"),
    redis.zcount(keys.nodes, `(${deadBefore}`, nowMs),
    redis.zcount(keys.nodes, 0, deadBefore),
    redis.zcount(keys.nodes, "-inf", "(0"),
  ]);
  return { alive, suspect, dead, left };
}

/** KEYS any key, which is not touched. Returns the time of the Redis that has it. */
const readTime = defineScript<[key: string]>("redis_time", 1, "return now");
const timeReply = z.number();

/**
 * Redis's time in Unix milliseconds, of the one that has `key`: in a Cluster each has a clock of its own, so name the key
 * whose times this one is compared with. It need not be there.
 */
export async function redisTimeMs(redis: RedisClient, key: string): Promise<number> {
  return timeReply.parse(await readTime.call(redis, [key], []));
}

/** KEYS revision. ARGV least. Raises the cluster's counter to at least that; atomic, so that it never goes back. */
const raise = defineScript<[revision: string]>(
  "raise_revision",
  1,
  `
if tonumber(redis.call('GET', KEYS[1]) or 0) < tonumber(ARGV[1]) then redis.call('SET', KEYS[1], ARGV[1]) end
return now
`,
);

/** After a Redis that came back older, new commands must not draw revisions that nodes have already applied. */
export async function raiseRevision(redis: RedisClient, keys: Keys, least: number): Promise<void> {
  if (least > 0) await raise.call(redis, [keys.revision], [least]);
}
