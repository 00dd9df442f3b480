import * as z from "zod";
import { nodeFacts, nodeLoad, type NodeRecord, nodeStatus } from "../../domain/node/node.ts";
import type { RedisClient } from "../connection/client.ts";
import type { Keys } from "../keys.ts";
import { isCluster } from "../connection/connection.ts";
import { defineScript } from "../connection/script.ts";
import {
  inside,
  type OnUnreadable,
  readIndex,
  readKey,
  refuse,
  UnreadableRecord,
  whyUnreadable,
} from "../unreadable.ts";
import { OTHER_TYPE, eligibilityField, labelEntries, labelsOf } from "./node-orders.ts";

/**
 * A Lua function: returns the node's own record as a piece of JSON `incarnation, leaseUntil, left, startedAt, beatAt,
 * facts, status, dead, now`, or nil. Each field begins a line, so that a field that is not JSON can be found. The text that
 * stands for a key of another type is not JSON either.
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
 * Reads nodes. KEYS meta, status, orders of each node. Returns for each node false, or as JSON [what `META` returns, load,
 * eligibility, uncordonedBy, labels].
 * A script, because the cost of a page is the number of commands: three per node take the reader three times as long. JSON,
 * because reading one text takes a fraction of the time of ten strings. One text per node, so that data that a node has
 * written about itself cannot be taken for another node's.
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

/** KEYS meta. Returns what `META` returns, or false. */
const readMeta = defineScript<[meta: string]>("read_node_meta", 1, `${META}\nreturn meta(KEYS[1]) or false`);

/** Nodes in one call of the script: other clients of Redis wait half a millisecond meanwhile. */
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

/** For each element of `nodeFields`: the node's key that holds it, and the name of the field. */
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
 * Reads nodes; null for one that does not exist, and for one that cannot be read, unless `onUnreadable` throws. One round
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
  // Each part is parsed while Redis works on the next.
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

/**
 * As `READ_NODES`, but key by key: a script over several keys is refused while the Cluster moves their slot. One round trip.
 */
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

/** Counts the nodes by liveness, from the index of leases: four counts, whatever the size of the cluster. */
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

/** KEYS any key; it is not touched. Returns the time of the Redis that holds the key. */
const readTime = defineScript<[key: string]>("redis_time", 1, "return now");

const timeReply = z.number();

/**
 * The time of the Redis that holds `key`, in Unix milliseconds. In a Cluster each Redis has its own clock, so name the key
 * whose times are compared with this one. The key need not exist.
 */
export async function redisTimeMs(redis: RedisClient, key: string): Promise<number> {
  return timeReply.parse(await readTime.call(redis, [key], []));
}
