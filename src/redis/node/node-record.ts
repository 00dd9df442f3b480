import * as z from "zod";
import {
  ELIGIBILITIES,
  type Eligibility,
  type NodeFacts,
  nodeFacts,
  type NodeLoad,
  nodeLoad,
  type NodeRecord,
  type NodeStatus,
  nodeStatus,
} from "../../domain/node/node.ts";
import type { Revision } from "../../domain/names/revision.ts";
import type { RedisClient } from "../connection/client.ts";
import type { Keys } from "../keys.ts";
import { isCluster } from "../connection/connection.ts";
import { writeFormat } from "../format.ts";
import { defineScript } from "../connection/script.ts";
import {
  inside,
  type OnUnreadable,
  readIndex,
  readKey,
  refuse,
  UnreadableRecord,
  whyUnreadable,
  writeIndex,
} from "../unreadable.ts";

/**
 * Takes the id for a new incarnation, or refuses while another worker's lease runs.
 * KEYS meta. ARGV session, leaseMs, facts, status, least incarnation, then the sessions of this worker's former lives.
 * Returns {1, incarnation, now, leaseUntil} or {0, ms the other lease still runs}. What is no hash is nobody's lease.
 * One key, because a script over several is refused (TRYAGAIN) for as long as a Redis Cluster moves their slot. Atomic: two
 * workers that register at once must not both hold the id, nor may a Master forget the node meanwhile.
 */
const register = defineScript<[meta: string]>(
  "register",
  1,
  `
only(KEYS[1], 'hash')
local m = redis.call('HMGET', KEYS[1], 'incarnation', 'session', 'leaseUntil', 'left', 'dead')
local lease = tonumber(m[3] or 0) or 0
local free = not m[1] or m[4] or lease <= now or m[2] == ARGV[1]
for i = 6, #ARGV do free = free or m[2] == ARGV[i] end
if not free then return {0, lease - now} end
local incarnation = math.max(tonumber(m[1] or 0) or 0, tonumber(m[5] or 0) or 0, tonumber(ARGV[5])) + 1
local untilMs = now + tonumber(ARGV[2])
redis.call('HSET', KEYS[1], 'incarnation', incarnation, 'session', ARGV[1], 'leaseUntil', untilMs, 'startedAt', now,
  'beatAt', now, 'beats', 0, 'facts', ARGV[3], 'status', ARGV[4], 'published', 0)
redis.call('HDEL', KEYS[1], 'left', 'forgetting')
return {1, incarnation, now, untilMs}
`,
);

/**
 * One heartbeat: renews the lease and publishes the status.
 * KEYS meta. ARGV session, incarnation, leaseMs, status, beats so far.
 * Returns {'ok', now, leaseUntil, beats, number of the last publication, eligibility or '', words left by Masters};
 * {'gone'} (Redis came back empty, or has something else there); {'other', session, incarnation} (the id is not this
 * incarnation's here);
 * {'older'} (Redis is older than this worker's last beat); {'lapsed'} (the lease ran out, or a Master declared it dead).
 * One key (see `register`). Atomic: a lease that has run out, or is another's, must never be renewed.
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
 * Publishes the load for as long as the lease. KEYS status. ARGV incarnation, leaseMs, load.
 * Atomic: what a former incarnation has sent late must not stand for the present one.
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

/** Leaves: KEYS meta. ARGV session, incarnation. Returns now, or 0 where the id is not ours (any more). */
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

/**
 * Sets eligibility as a Master's order. KEYS orders. ARGV eligibility, revision, wave.
 * Returns 1 changed, 0 it was so, -1 a newer command, or a later wave of this one, has decided. Repeating it changes nothing,
 * and has the same answer: whoever wrote it the first time may have died before it told.
 */
const setEligibility = defineScript<[orders: string]>(
  "set_eligibility",
  1,
  `
only(KEYS[1], 'hash')
local o = redis.call('HMGET', KEYS[1], 'eligibility', 'eligibilityRevision', 'eligibilityWave', 'eligibilityBefore')
local revision, wave = tonumber(o[2] or 0) or 0, tonumber(o[3] or 0) or 0
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

/**
 * Copies an order into the node's own hash, where its heartbeat reads it: a heartbeat reads one key.
 * KEYS meta. ARGV eligibility, revision, wave. Only where the node is registered, and never over a newer order.
 */
const copyEligibility = defineScript<[meta: string]>(
  "copy_eligibility",
  1,
  `
local m = redis.pcall('HMGET', KEYS[1], 'incarnation', 'eligibilityRevision', 'eligibilityWave')
if not m[1] then return 0 end
local revision, wave = tonumber(m[2] or 0) or 0, tonumber(m[3] or 0) or 0
if revision > tonumber(ARGV[2]) or (revision == tonumber(ARGV[2]) and wave > tonumber(ARGV[3])) then return 0 end
redis.call('HSET', KEYS[1], 'eligibility', ARGV[1], 'eligibilityRevision', ARGV[2], 'eligibilityWave', ARGV[3])
return 1
`,
);

/** Labels of one node that are set by command: all of them are read with each look at the node. */
export const MOST_LABELS = 100;

/**
 * Sets labels as a Master's order. KEYS orders. ARGV revision, wave, most labels, then of each its name, `set`, `removed` or
 * `unset`, and its value.
 * The field `labels` is JSON: by name {is, v: the value of one that is set, r: revision, w: wave, was: {is, v} before it}. One
 * that is unset keeps its place, so that an older order which comes late finds a newer one.
 * Returns {how many a newer command has not decided, how many of those have changed, how they were before as JSON}, or {-1}
 * where that would be too many. Repeating it changes nothing, and has the same answer (see `set_eligibility`).
 */
const setLabels = defineScript<[orders: string]>(
  "set_labels",
  1,
  `
only(KEYS[1], 'hash')
local ok, all = pcall(cjson.decode, redis.call('HGET', KEYS[1], 'labels') or '{}')
if not ok or type(all) ~= 'table' then all = {} end
local revision, wave = tonumber(ARGV[1]), tonumber(ARGV[2])
local decided, changed, before = 0, 0, {}
for i = 4, #ARGV, 3 do
  local name, is, v = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  if is ~= 'set' then v = nil end
  local e = all[name] or {is = 'unset', r = 0, w = 0}
  if e.r < revision or (e.r == revision and e.w <= wave) then
    local was = (e.r == revision and e.w == wave and e.was) or {is = e.is, v = e.v}
    all[name] = {is = is, v = v, r = revision, w = wave, was = was}
    before[name] = was
    decided = decided + 1
    if was.is ~= is or was.v ~= v then changed = changed + 1 end
  end
end
local count = 0
for _ in pairs(all) do count = count + 1 end
if count > tonumber(ARGV[3]) then
  for name, e in pairs(all) do if e.is == 'unset' and e.r < revision then all[name], count = nil, count - 1 end end
  if count > tonumber(ARGV[3]) then return {-1} end
end
if decided > 0 then redis.call('HSET', KEYS[1], 'labels', cjson.encode(all)) end
return {decided, changed, cjson.encode(before)}
`,
);

/** A label as a command has set it. */
const labelEntry = z.object({ is: z.enum(["set", "removed", "unset"]), v: z.string().optional() });
const labelEntries = z.record(z.string(), labelEntry);
type LabelEntries = z.output<typeof labelEntries>;

/** The labels of a node: those that its worker was started with, and over them what was ordered. */
const labelsOf = (own: Readonly<Record<string, string>>, ordered: LabelEntries): Record<string, string> =>
  Object.fromEntries([
    ...Object.entries(own).filter(([name]) => !Object.hasOwn(ordered, name) || ordered[name]?.is === "unset"),
    ...Object.entries(ordered).flatMap(([name, { is, v }]) => (is === "set" && v !== undefined ? [[name, v]] : [])),
  ]);

// Made once: a schema costs more to make than to use.
const setLabelsReply = z.tuple([z.literal(-1)]).or(z.tuple([z.int().min(0), z.int().min(0), z.string()]));
const eligibilityField = z.enum(ELIGIBILITIES);
const registered = z.tuple([z.literal(1), z.number(), z.number(), z.number()]);
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
      /** null where no Master has ordered anything since the node registered with an empty Redis. */
      readonly eligibility: Eligibility | null;
      /** How many words Masters have left for the node, ever: where that has grown, there is one to obey. */
      readonly words: number;
    }
  /** The id is not this incarnation's here: another worker's, or an earlier one's where Redis is older. */
  | { readonly outcome: "other"; readonly session: string; readonly incarnation: number }
  | { readonly outcome: "gone" | "older" | "lapsed" };

export type Registering = {
  readonly session: string;
  /** Of this worker's former lives, which are dead: the lease of none of them is waited for. */
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
  /** The caller's estimate, for the index. */
  readonly leaseUntilHintMs: number;
};

/**
 * Registers a worker under a node id. Repeating it with the same session gives the next incarnation.
 */
export async function registerNode(redis: RedisClient, keys: Keys, id: string, as: Registering): Promise<Registration> {
  // The pointers before the record: a node that can be read must be listed, placed on and counted too.
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
  const [, incarnation, nowMs, leaseUntilMs] = registered.parse(reply);
  // What a former life measured says nothing of this one.
  const lease = () => redis.zadd(keys.nodes, leaseUntilMs, id);
  await Promise.all([writeIndex(redis, keys.nodes, "zset", lease), redis.del(keys.nodeStatus(id))]);
  return { ok: true, incarnation, nowMs, leaseUntilMs };
}

/**
 * One round trip, whatever the size of the cluster. The node is put into the index of leases again, too: a Master that was
 * forgetting it may have taken it out, or a failover lost that; so does `listNode` for the list.
 */
export async function beatNode(redis: RedisClient, keys: Keys, id: string, as: Beating): Promise<Beat> {
  // One after the other in one turn, so that they share a round trip. Only the first is waited for.
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
  const [outcome, nowMs, leaseUntilMs, beats, published, eligibility, words] = beatReply.parse(reply);
  return {
    outcome,
    nowMs,
    leaseUntilMs,
    beats,
    published,
    eligibility: eligibility === "" ? null : eligibility,
    words,
  };
}

/**
 * A hint that fails or hangs, because another shard is away, must not cost a lease that was renewed; the next beat repeats
 * it. The load goes with the lease.
 */
function untilNextBeat(): void {}

/** Puts a node on the list of nodes. Safe to repeat. */
export async function listNode(redis: RedisClient, keys: Keys, id: string): Promise<void> {
  await writeIndex(redis, keys.nodeIds, "zset", () => redis.zadd(keys.nodeIds, 0, id));
}

/** Ends the lease of its own will. @returns false where another worker has the id. Safe to repeat. */
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

/** @returns "superseded" where a newer command has decided. Safe to repeat. */
export async function orderEligibility(
  redis: RedisClient,
  keys: Keys,
  id: string,
  eligibility: Eligibility,
  { revision, wave }: Revision,
): Promise<"changed" | "unchanged" | "superseded"> {
  const reply = await setEligibility.call(redis, [keys.nodeOrders(id)], [eligibility, revision, wave]);
  if (reply !== -1) await copyEligibility.call(redis, [keys.nodeMeta(id)], [eligibility, revision, wave]);
  return reply === 1 ? "changed" : reply === 0 ? "unchanged" : "superseded";
}

/** What is ordered of labels: a value, or null for one that is taken away; `unset`: as the worker was started with it. */
export type LabelOrder = {
  readonly labels: Readonly<Record<string, string | null>>;
  readonly unset: readonly string[];
};
type LabelsOrdered =
  | { readonly outcome: "superseded" | "full" }
  | { readonly outcome: "done"; readonly changed: boolean; readonly before: LabelOrder };

/**
 * Sets labels of a node. @returns how they were before; "superseded" where newer commands have decided about all of them,
 * "full" where there would be more than `MOST_LABELS`: then nothing is done. Safe to repeat.
 */
export async function orderLabels(
  redis: RedisClient,
  keys: Keys,
  id: string,
  { labels, unset }: LabelOrder,
  { revision, wave }: Revision,
): Promise<LabelsOrdered> {
  const orders = [
    ...Object.entries(labels).flatMap(([name, value]) => [name, value === null ? "removed" : "set", value ?? ""]),
    ...unset.flatMap((name) => [name, "unset", ""]),
  ];
  const reply = setLabelsReply.parse(
    await setLabels.call(redis, [keys.nodeOrders(id)], [revision, wave, MOST_LABELS, ...orders]),
  );
  if (reply.length === 1) return { outcome: "full" };
  const [decided, changed, before] = reply;
  if (decided === 0) return { outcome: "superseded" };
  const entries = Object.entries(labelEntries.parse(JSON.parse(before)));
  return {
    outcome: "done",
    changed: changed > 0,
    before: {
      labels: Object.fromEntries(entries.flatMap(([name, { is, v }]) => (is === "unset" ? [] : [[name, v ?? null]]))),
      unset: entries.flatMap(([name, { is }]) => (is === "unset" ? [name] : [])).sort(),
    },
  };
}

/** What Masters have ordered of a node; where that cannot be read, it takes nothing new until it is uncordoned. */
export async function readEligibility(redis: RedisClient, keys: Keys, id: string): Promise<Eligibility> {
  const key = keys.nodeOrders(id);
  const ordered = await readKey({ id, key }, redis.hget(key, "eligibility"), OTHER_TYPE, () => undefined);
  return ordered === null ? "eligible" : eligibilityField.catch("cordoned").parse(ordered);
}

/**
 * A function of Lua: the node's own record as a piece of JSON `incarnation, leaseUntil, left, startedAt, beatAt, facts, status,
 * dead, now`, or nil. Each field begins a line, so that the one that is no JSON can be found: as is what stands for a key of
 * another type.
 */
const META = `
local function meta(key)
  local m = redis.pcall('HMGET', key, 'incarnation', 'leaseUntil', 'left', 'startedAt', 'beatAt', 'facts', 'status', 'dead')
  if m.err then return 'of another type' end
  if not m[1] then return nil end
  for f = 2, 8 do m[f] = m[f] or 'null' end
  m[9] = now
  return table.concat(m, ',\\n')
end
`;

/**
 * Reads nodes. KEYS meta, status, orders of each. Returns of each false, or as JSON [what `META` gives, load, eligibility,
 * uncordonedBy, labels].
 * A script, because what a page costs is the number of commands: three a node take the reader three times as long. JSON,
 * because one text is read in a fraction of the time of ten strings; one for each node, so that what a node has written of
 * itself is taken for nothing of another's.
 */
const READ_NODES = `
${META}
local nodes = {}
for i = 1, #KEYS, 3 do
  local own = meta(KEYS[i])
  if own then
    local load = redis.pcall('HGET', KEYS[i + 1], 'load') or 'null'
    if type(load) == 'table' then load = 'of another type' end
    local orders = redis.pcall('HMGET', KEYS[i + 2], 'eligibility', 'uncordonedBy', 'labels')
    local eligibility = orders.err and 'of another type' or '"' .. (orders[1] or 'eligible') .. '"'
    local rest = {own, load, eligibility, orders[2] or 0, orders[3] or '{}'}
    nodes[#nodes + 1] = '[' .. table.concat(rest, ',\\n') .. ']'
  else
    nodes[#nodes + 1] = false
  end
end
return nodes
`;
const readOne = defineScript<[meta: string, status: string, orders: string]>("read_node", 3, READ_NODES);
const readMany = defineScript<string[]>("read_nodes", null, READ_NODES);
/** KEYS meta. Returns what `META` gives, or false. */
const readMeta = defineScript<[meta: string]>("read_node_meta", 1, `${META}\nreturn meta(KEYS[1]) or false`);
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
  whole.nullable(),
  whole,
  nodeLoad.nullable(),
  eligibilityField,
  whole,
  labelEntries,
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
  ["meta", "dead"],
  ["meta", "now"],
  ["status", "load"],
  ["orders", "eligibility"],
  ["orders", "uncordonedBy"],
  ["orders", "labels"],
] as const;
const nodesReply = z.array(z.string().nullable());
const metaReply = z.string();

/**
 * Reads nodes; null for one that there is not, and for one that cannot be read, unless `onUnreadable` throws. One round
 * trip.
 */
export async function readNodes(
  redis: RedisClient,
  keys: Keys,
  ids: readonly string[],
  onUnreadable: OnUnreadable = refuse,
): Promise<(NodeRecord | null)[]> {
  const read = (id: string, text: string | null): NodeRecord | null => {
    if (text === null) return null;
    try {
      return nodeOf(id, nodeFields.parse(JSON.parse(text)));
    } catch (error) {
      onUnreadable(unreadableNode(keys, id, text, error));
      return null;
    }
  };
  if (isCluster(redis)) return Promise.all(ids.map(async (id) => read(id, await nodeInCluster(redis, keys, id))));
  const keysOf = (id: string) => [keys.nodeMeta(id), keys.nodeStatus(id), keys.nodeOrders(id)] as const;
  const parts = Array.from({ length: Math.ceil(ids.length / READ_AT_ONCE) }, (_, part) =>
    ids.slice(part * READ_AT_ONCE, (part + 1) * READ_AT_ONCE),
  );
  // Each part is taken apart while Redis is at the next.
  const all = await Promise.all(
    parts.map(async (part) => {
      const [only] = part;
      const reply =
        part.length === 1 && only !== undefined
          ? await readOne.call(redis, [...keysOf(only)], [])
          : await readMany.callApart(redis, part.flatMap(keysOf), []);
      return nodesReply.parse(reply).map((text, index) => read(part[index] ?? "", text));
    }),
  );
  return all.flat();
}

/** As `READ_NODES`, key by key: a script over several is refused for as long as the Cluster moves their slot. One round trip. */
async function nodeInCluster(redis: RedisClient, keys: Keys, id: string): Promise<string | null> {
  const [meta, load, [eligibility, uncordonedBy, labels]] = await Promise.all([
    readMeta.call(redis, [keys.nodeMeta(id)], []),
    readPiece(redis.hget(keys.nodeStatus(id), "load"), OTHER_TYPE),
    readPiece(redis.hmget(keys.nodeOrders(id), "eligibility", "uncordonedBy", "labels"), [OTHER_TYPE, null, null]),
  ]);
  if (meta === null) return null;
  const orders = `"${eligibility ?? "eligible"}",\n${uncordonedBy ?? "0"},\n${labels ?? "{}"}`;
  return `[${metaReply.parse(meta)},\n${load ?? "null"},\n${orders}]`;
}

/** No JSON, and no eligibility. */
const OTHER_TYPE = "of another type";
const readPiece = <T>(read: Promise<T>, instead: T): Promise<T> =>
  readKey({ id: "", key: "" }, read, instead, () => undefined);

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
  const [facts, status, dead, readAtMs, load, eligibility, uncordonedBy, ordered] = described;
  return {
    id,
    incarnation,
    leaseUntilMs,
    leftAtMs,
    startedAtMs,
    lastBeatAtMs,
    facts: { ...facts, labels: labelsOf(facts.labels, ordered) },
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
  const from = after === null ? "-" : `(${after}`;
  return readIndex(redis, keys.nodeIds, "zset", redis.zrangebylex(keys.nodeIds, from, "+", "LIMIT", 0, limit), []);
}

/** How many nodes there are by liveness, from the index of leases: four counts, whatever the cluster's size. */
export async function countNodes(redis: RedisClient, keys: Keys, nowMs: number, deadAfterMs: number) {
  const deadBefore = nowMs - deadAfterMs;
  const counts = Promise.all([
    redis.zcount(keys.nodes, `(${nowMs}`, "+inf"),
    redis.zcount(keys.nodes, `(${deadBefore}`, nowMs),
    redis.zcount(keys.nodes, 0, deadBefore),
    redis.zcount(keys.nodes, "-inf", "(0"),
  ]);
  const [alive, suspect, dead, left] = await readIndex(redis, keys.nodes, "zset", counts, [0, 0, 0, 0]);
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
