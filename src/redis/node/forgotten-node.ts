import * as z from "zod";
import { keepAssignments } from "../stitch/assignments.ts";
import type { RedisClient } from "../connection/client.ts";
import type { Keys } from "../keys.ts";
import { defineScript } from "../connection/script.ts";
import { FORGOTTEN_AT, FORGOTTEN_KEPT_MS } from "../stitch/tombstones.ts";
import { writeIndex } from "../unreadable.ts";

/**
 * Begins to forget a node. KEYS meta. ARGV ms from the end of its lease until the node counts as dead.
 * Returns {'forgetting', incarnation}, {'alive'}, or {'unknown'}. Repeating it continues what was begun.
 * A key that is not a hash, or whose incarnation is not a number, cannot belong to a live node: the incarnation is -1 then.
 * A lease that is not a number has ended.
 * Atomic: a registration removes the mark `forgetting`, and `end_forgetting` sees that.
 */
const begin = defineScript<[meta: string]>(
  "begin_forgetting",
  1,
  `
local kind = redis.call('TYPE', KEYS[1]).ok
if kind == 'none' then return {'unknown', 0} end
if kind ~= 'hash' then redis.call('DEL', KEYS[1]) end
local m = redis.call('HMGET', KEYS[1], 'incarnation', 'leaseUntil', 'left', 'dead')
local incarnation, dead = tonumber(m[1] or -1) or -1, tonumber(m[4] or -2) or -2
local lease = tonumber(m[2] or 0) or 0
if not m[3] and dead < incarnation and now < lease + tonumber(ARGV[1]) then return {'alive', 0} end
redis.call('HSET', KEYS[1], 'forgetting', now)
return {'forgetting', incarnation}
`,
);

/** Keeps the tombstones of a forgotten node for a while, with the time when it was forgotten. KEYS gone. */
const keepWords = defineScript<[gone: string]>(
  "keep_words",
  1,
  `
only(KEYS[1], 'hash')
redis.call('HSET', KEYS[1], '${FORGOTTEN_AT}', now)
return redis.call('PEXPIRE', KEYS[1], ${FORGOTTEN_KEPT_MS})
`,
);

/**
 * Ends the forgetting: deletes the node's keys in its own slot. KEYS meta, then all other keys to delete. ARGV incarnation.
 * Returns 1; or 0 if the node has registered since the forgetting began: then nothing is deleted.
 */
const end = defineScript<
  [meta: string, status: string, stitches: string, removed: string, usage: string, specs: string, orders: string]
>(
  "end_forgetting",
  7,
  `
only(KEYS[1], 'hash')
local m = redis.call('HMGET', KEYS[1], 'incarnation', 'forgetting')
if m[1] and not m[2] then return 0 end
if m[2] and (tonumber(m[1] or -1) or -1) ~= tonumber(ARGV[1]) then return 0 end
redis.call('DEL', unpack(KEYS))
return 1
`,
);

const begun = z.tuple([z.enum(["forgetting", "alive", "unknown"]), z.int()]);

/** `incarnation`: -1 if it cannot be read. */
type Forgetting = { readonly kind: "forgetting"; readonly incarnation: number };

/** Begins to forget a node that is dead or has left, whatever its records hold. Safe to repeat. */
export async function beginForgetting(
  redis: RedisClient,
  keys: Keys,
  node: string,
  deadAfterMs: number,
): Promise<Forgetting | { readonly kind: "alive" } | { readonly kind: "unknown" }> {
  const [kind, incarnation] = begun.parse(await begin.call(redis, [keys.nodeMeta(node)], [deadAfterMs]));
  switch (kind) {
    case "forgetting":
      return { kind, incarnation };
    case "alive":
    case "unknown":
      return { kind };
  }
}

/** @returns false if the node has registered meanwhile: then it is not forgotten, and keeps its own keys. */
export async function endForgetting(
  redis: RedisClient,
  keys: Keys,
  node: string,
  { incarnation }: Forgetting,
): Promise<boolean> {
  await Promise.all([keepWords.call(redis, [keys.nodeGone(node)], []), keepAssignments(redis, keys, node)]);
  const published = [keys.nodeStatus(node), keys.nodeStitches(node), keys.nodeRemoved(node)] as const;
  const own = [keys.nodeMeta(node), ...published, keys.nodeUsage(node), keys.nodeSpecs(node)] as const;
  const ended = await end.call(redis, [...own, keys.nodeOrders(node)], [incarnation]);
  if (ended !== 1)
    await Promise.all([redis.hdel(keys.nodeGone(node), FORGOTTEN_AT), redis.persist(keys.nodeGone(node))]);
  return ended === 1;
}

/**
 * Removes a node from the lists of nodes. This is the last step: if the forgetting is cut off before it, the node can be
 * found and forgotten again. @returns was the node listed?
 */
export async function unlistNode(redis: RedisClient, keys: Keys, node: string): Promise<boolean> {
  const gone = await Promise.all(
    [keys.nodes, keys.nodeIds].map((key) => writeIndex(redis, key, "zset", () => redis.zrem(key, node))),
  );
  return gone.some((count) => count > 0);
}
