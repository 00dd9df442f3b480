import * as z from "zod";
import { fullId } from "../../domain/names/ids.ts";
import type { RedisClient } from "../connection/client.ts";
import { isCluster } from "../connection/connection.ts";
import { defineScript } from "../connection/script.ts";
import { aroundId, type Keys } from "../keys.ts";
import { listNodeIds } from "./node-record.ts";
import type { OnUnreadable } from "../unreadable.ts";
import { listStitchesOfNode, stitchIdsIn } from "../stitch/stitch-records.ts";

/** Nodes and stitches that one call of the script looks at: other clients of Redis wait some milliseconds meanwhile. */
const LOOKED_AT = 5000;
/** Most nodes whose stitches are listed in one round trip without the script. */
const MOST_NODES = 1000;

/**
 * Lists the stitches of nodes, node by node in the order of their ids, until there are enough. Not for a Cluster. ARGV index of node
 * ids, what stands before and after a node's id in the key of its stitches, bound of the first node, how many stitches, how much to
 * look at.
 * Returns {node to continue after or '' at the end, {node, {stitch, …}}, …}; false if a key has another type, or if the first node alone
 * has more stitches than may be looked at.
 * The first node is in the way if its bound includes it: then the list goes on in the middle of it, and none of its stitches counts.
 * A hash of stitches has a field that is no stitch (`NEVER_EMPTY`), so that one does not count either.
 */
const walk = defineScript<[]>(
  "list_stitches",
  0,
  `
local from, wanted, looks, reply = ARGV[4], tonumber(ARGV[5]), tonumber(ARGV[6]), {''}
local continues = string.sub(from, 1, 1) == '['
repeat
  local nodes = redis.pcall('ZRANGEBYLEX', ARGV[1], from, '+', 'LIMIT', 0, 100)
  if nodes.err then return false end
  for _, node in ipairs(nodes) do
    local key = ARGV[2] .. node .. ARGV[3]
    local size = redis.pcall('HLEN', key)
    if type(size) == 'table' then return false end
    looks = looks - 1 - size
    if looks < 0 then return #reply > 1 and reply end
    reply[1], from = node, '(' .. node
    reply[#reply + 1] = {node, redis.call('HKEYS', key)}
    if not continues then wanted = wanted - math.max(size - 1, 0) end
    if wanted <= 0 then return reply end
    continues = false
  end
until #nodes < 100
reply[1] = ''
return reply
`,
);

const walkReply = z.tuple([z.string()], z.tuple([z.string(), z.array(z.string())])).nullable();

/** Some nodes with their sorted stitches, in the order of the nodes; `last`: the next ones come after this node; null at the end. */
type Walked = {
  readonly nodes: readonly (readonly [node: string, stitches: readonly string[]])[];
  readonly last: string | null;
};

/**
 * Full ids, in the order of the nodes' ids, and on each node in the order of the stitches' ids.
 * @returns those after the place `after`; fewer than `limit` only at the end of the list.
 */
export async function listFullIds(
  redis: RedisClient,
  keys: Keys,
  after: { readonly node: string; readonly stitch: string } | null,
  limit: number,
  onUnreadable: OnUnreadable,
): Promise<string[]> {
  const found: string[] = [];
  // The number of nodes that fill a page is unknown: key by key, each round trip asks for twice as many as the one before.
  let take = 8;
  let from = after?.node ?? null;
  let continues = after !== null;
  do {
    const bound = from === null ? "-" : `${continues ? "[" : "("}${from}`;
    const all: Walked =
      (isCluster(redis) ? null : await walkAtOnce(redis, keys, bound, limit - found.length)) ??
      (await walkByKeys(redis, keys, { from, continues, take }, onUnreadable));
    for (const [node, stitches] of all.nodes)
      for (const stitch of stitches)
        if (after === null || node !== after.node || stitch > after.stitch) found.push(fullId(node, stitch));
    from = all.last;
    continues = false;
    take = Math.min(MOST_NODES, take * 2);
  } while (from !== null && found.length < limit);
  return found.slice(0, limit);
}

/** One round trip. null: what is there must be read key by key. */
async function walkAtOnce(redis: RedisClient, keys: Keys, bound: string, wanted: number): Promise<Walked | null> {
  const args = [keys.nodeIds, ...aroundId((id) => keys.nodeStitches(id)), bound, wanted, LOOKED_AT];
  const reply = walkReply.parse(await walk.call(redis, [], args));
  if (reply === null) return null;
  const [last, ...rows] = reply;
  return { nodes: rows.map(([node, fields]) => [node, stitchIdsIn(fields)]), last: last === "" ? null : last };
}

/** Two round trips. */
async function walkByKeys(
  redis: RedisClient,
  keys: Keys,
  { from, continues, take }: { readonly from: string | null; readonly continues: boolean; readonly take: number },
  onUnreadable: OnUnreadable,
): Promise<Walked> {
  const next = await listNodeIds(redis, keys, from, take);
  const nodes = continues && from !== null ? [from, ...next] : next;
  const stitches = await Promise.all(nodes.map((node) => listStitchesOfNode(redis, keys, node, onUnreadable)));
  return {
    nodes: nodes.map((node, index) => [node, stitches[index] ?? []]),
    last: next.length < take ? null : (next.at(-1) ?? null),
  };
}
