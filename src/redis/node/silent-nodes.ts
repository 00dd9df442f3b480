import * as z from "zod";
import type { Look } from "../../domain/node/pulse.ts";
import { REPLICATION_ID } from "../connection/replication-id.ts";
import { defineScript } from "../connection/script.ts";
import type { RedisClient } from "../connection/client.ts";
import type { Keys } from "../keys.ts";

/** KEYS nodes. Returns now, the replication id, and the ids whose lease has run out, each with the end of its lease. */
const lapsedScript = defineScript<[nodes: string]>(
  "lapsed_nodes",
  1,
  `${REPLICATION_ID}
local ids = redis.pcall('ZRANGEBYSCORE', KEYS[1], 0, now, 'WITHSCORES')
return {now, replication_id() or '', ids.err and {} or ids}
`,
);

/** KEYS meta. Returns now, the replication id, incarnation, beats, leaseUntil, left, dead and suspect; '' for what is not there. */
const silentScript = defineScript<[meta: string]>(
  "silent_node",
  1,
  `${REPLICATION_ID}
local m = redis.pcall('HMGET', KEYS[1], 'incarnation', 'beats', 'leaseUntil', 'left', 'dead', 'suspect')
if m.err then m = {} end
for f = 1, 6 do m[f] = m[f] or '' end
return {now, replication_id() or '', unpack(m)}
`,
);

/**
 * Notes that a node is suspect, or declares it dead. KEYS meta. ARGV suspect | dead, incarnation, beats, replication id.
 * Returns 1 if that is new. Returns 0 if it is noted already, or not true: the node has left, registered or beaten since it was
 * looked at, its lease runs, or this is another Redis, which may have lost a beat.
 * Atomic: of many Masters, one notes it; and no beat comes between the look at the lease and the word `dead`.
 */
const noteScript = defineScript<[meta: string]>(
  "note_silence",
  1,
  `${REPLICATION_ID}
local m = redis.pcall('HMGET', KEYS[1], 'incarnation', 'beats', 'leaseUntil', 'left', 'dead', 'suspect')
if m.err or m[1] ~= ARGV[2] or m[2] ~= ARGV[3] or m[4] or (replication_id() or '') ~= ARGV[4] then return 0 end
if (tonumber(m[3] or 0) or 0) > now then return 0 end
local dead, suspect = tonumber(m[5] or 0) or 0, tonumber(m[6] or 0) or 0
if dead >= tonumber(ARGV[2]) or ARGV[1] == 'suspect' and suspect >= tonumber(ARGV[2]) then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
return 1
`,
);

const lapsedReply = z.tuple([z.number(), z.string(), z.array(z.string())]);
const number = z.string().transform((text) => Number(text) || 0);
const silentReply = z.tuple([z.number(), z.string(), z.string(), z.string(), number, z.string(), number, number]);

/** A node whose lease seems to have run out: what it was when it was looked at. */
export type SilentNode = {
  readonly id: string;
  /** As Redis has them, to be compared. */
  readonly incarnation: string;
  readonly beats: string;
  /** Is it silent indeed: registered, its lease over, and not gone in good order? */
  readonly isSilent: boolean;
  readonly isSuspect: boolean;
  readonly isDead: boolean;
  /** Of the Redis that has the node. */
  readonly look: Omit<Look, "steadyMs">;
};

/** The nodes whose lease has run out by the index, with the end of the lease. One round trip; its cost grows with these nodes only. */
export async function readLapsed(
  redis: RedisClient,
  keys: Keys,
): Promise<{ readonly lapsed: ReadonlyMap<string, string>; readonly look: Omit<Look, "steadyMs"> }> {
  const [redisMs, replid, pairs] = lapsedReply.parse(await lapsedScript.call(redis, [keys.nodes], []));
  const lapsed = new Map<string, string>();
  for (let at = 0; at + 1 < pairs.length; at += 2) lapsed.set(pairs[at] ?? "", pairs[at + 1] ?? "");
  return { lapsed, look: { redisMs, replid } };
}

/** Looks at nodes themselves: the index is a hint. One round trip. */
export async function readSilent(redis: RedisClient, keys: Keys, ids: readonly string[]): Promise<SilentNode[]> {
  return Promise.all(
    ids.map(async (id) => {
      const reply = silentReply.parse(await silentScript.call(redis, [keys.nodeMeta(id)], []));
      const [redisMs, replid, incarnation, beats, leaseUntilMs, left, dead, suspect] = reply;
      return {
        id,
        incarnation,
        beats,
        isSilent: incarnation !== "" && left === "" && leaseUntilMs <= redisMs,
        isSuspect: suspect >= Number(incarnation),
        // A node that is not there (incarnation "") is as good as dead, too.
        isDead: dead >= Number(incarnation),
        look: { redisMs, replid },
      };
    }),
  );
}

/** @returns true if this call has noted it: then the caller tells of it. See `noteScript`. Safe to repeat. */
export async function noteSilence(
  redis: RedisClient,
  keys: Keys,
  as: "suspect" | "dead",
  { id, incarnation, beats, look }: SilentNode,
): Promise<boolean> {
  return (await noteScript.call(redis, [keys.nodeMeta(id)], [as, incarnation, beats, look.replid])) === 1;
}
