import * as z from "zod";
import type { RedisClient } from "../connection/client.ts";
import type { Keys } from "../keys.ts";
import { defineScript } from "../connection/script.ts";
import { readIndex, writeIndex } from "../unreadable.ts";
import { SEVERAL, shareOf } from "./put-messages.ts";

/** Most entries of an inbox; some MB of questions. */
export const MAX_ENTRIES = 10_000;

/** One group, with one consumer for all incarnations of the node: what one did not acknowledge, the next one finds. */
const GROUP = "node";
const CONSUMER = "node";

/**
 * Field of an inbox's load: the incarnation that owns the inbox. Because of this field the hash is never empty, so it
 * always exists.
 */
const OWNER = "incarnation";

/**
 * Takes an inbox for an incarnation. KEYS load. ARGV incarnation. Returns the incarnation that owns it now. Atomic: it
 * never goes back to an earlier incarnation.
 */
const own = defineScript<[load: string]>(
  "own_inbox",
  1,
  `
only(KEYS[1], 'hash')
local owner = tonumber(redis.call('HGET', KEYS[1], '${OWNER}') or 0) or 0
if owner > tonumber(ARGV[1]) then return owner end
redis.call('HSET', KEYS[1], '${OWNER}', ARGV[1])
return tonumber(ARGV[1])
`,
);

/**
 * A question to a node, as JSON. `reply`: the id of the answer. `asker`: the process that waits for it, until `untilMs` by
 * Redis's clock.
 */
export const question = z.object({
  name: z.string(),
  args: z.record(z.string(), z.unknown()),
  reply: z.string(),
  asker: z.string(),
  untilMs: z.number(),
});

export type Question = z.output<typeof question>;

/**
 * In Redis an entry has one field: its value is the body; its name is `question`, or `message:` and the stitch that it is
 * for, or `message:*` for several stitches. Only one field, because the cost of reading an entry grows with the number of
 * its strings.
 */
export type InboxEntry = {
  readonly id: string;
  /**
   * What the body is: "question", "message", a kind that a later version knows, or "gone" if the entry does not exist any more.
   */
  readonly kind: string;
  readonly body: string;
  /** Of a message: the stitch it is for, or "" for several. */
  readonly to: string;
};

/**
 * Puts a question into a node's inbox. KEYS inbox. ARGV bound, question. Returns its id, or false if the inbox is full.
 * Atomic: several senders at once must not fill the inbox beyond its bound.
 */
const putQuestionScript = defineScript<[inbox: string]>(
  "put_question",
  1,
  `
only(KEYS[1], 'stream')
if redis.call('XLEN', KEYS[1]) >= tonumber(ARGV[1]) then return false end
return redis.call('XADD', KEYS[1], '*', 'question', ARGV[2])
`,
);

/**
 * Acknowledges and deletes entries that the node is done with. KEYS inbox, its load. ARGV incarnation; the ids of the entries;
 * then for each entry the stitch it was for ('*' for several; '-' for a question); then for each entry the bytes of its body.
 * Returns 1; or 0 if the inbox belongs to a later incarnation: a late call of an earlier one must not remove entries that
 * the later one has in hand.
 * Usually all the entries were handed out and not acknowledged: then they all exist and are deleted together. Otherwise they
 * are deleted one by one, to see which exist. The counters never go below 0: after a load was lost, they continue from 0.
 * Atomic: an entry is never acknowledged but left there for good, and never counted after it is gone.
 */
const acknowledge = defineScript<[inbox: string, load: string]>(
  "acknowledge_inbox",
  2,
  `
local inbox, load, count = KEYS[1], KEYS[2], (#ARGV - 1) / 3
only(load, 'hash')
local function less(field, by)
  local left = redis.pcall('HINCRBY', load, field, -by)
  if type(left) == 'number' and left >= 0 then return left end
  redis.call('HDEL', load, field)
  return 0
end
if (tonumber(redis.call('HGET', load, '${OWNER}') or 0) or 0) > tonumber(ARGV[1]) then return 0 end
local together = redis.call('XACK', inbox, '${GROUP}', unpack(ARGV, 2, count + 1)) == count
if together then redis.call('XDEL', inbox, unpack(ARGV, 2, count + 1)) end
local messages, bytes, counts, sizes = 0, 0, {}, {}
for i = 1, count do
  local stitch, size = ARGV[count + i + 1], ARGV[2 * count + i + 1]
  if (together or redis.call('XDEL', inbox, ARGV[i + 1]) == 1) and stitch ~= '-' then
    messages, bytes = messages + 1, bytes + size
    if stitch ~= '' then counts[stitch], sizes[stitch] = (counts[stitch] or 0) + 1, (sizes[stitch] or 0) + size end
  end
end
if messages > 0 then
  less('n', messages)
  less('b', bytes)
end
for stitch, n in pairs(counts) do
  if less('n:' .. stitch, n) > 0 then
    less('b:' .. stitch, sizes[stitch])
  else
    redis.call('HDEL', load, 'n:' .. stitch, 'b:' .. stitch)
  end
end
return 1
`,
);

/** Entries in one call: Lua can unpack only a limited number of arguments at once. */
const MOST_ACKNOWLEDGED = 1000;

/**
 * Deletes an inbox that has no entries. KEYS inbox, its load. Returns 1, or 0 if it has entries.
 * Atomic: an entry that a sender puts there is either seen by the caller or refused.
 */
const drop = defineScript<[inbox: string, load: string]>(
  "drop_inbox",
  2,
  `
only(KEYS[1], 'stream')
if redis.call('XLEN', KEYS[1]) > 0 then return 0 end
redis.call('DEL', KEYS[1], KEYS[2])
return 1
`,
);

/** Deletes an empty inbox: nobody can send to its node any more. @returns false if the inbox is not empty. Safe to repeat. */
export async function dropInbox(redis: RedisClient, keys: Keys, node: string): Promise<boolean> {
  return (await drop.call(redis, [keys.nodeInbox(node), keys.nodeInboxLoad(node)], [])) === 1;
}

/** Puts a question into a node's inbox. @returns false if the inbox is full. */
export async function putQuestion(redis: RedisClient, keys: Keys, node: string, asked: Question): Promise<boolean> {
  return (await putQuestionScript.call(redis, [keys.nodeInbox(node)], [MAX_ENTRIES, JSON.stringify(asked)])) !== null;
}

/**
 * Creates the inbox and its group if they do not exist, and takes the inbox for an incarnation of the node. Safe to repeat.
 * @returns the incarnation that owns it now: an inbox of a later incarnation is not taken.
 */
export async function createInbox(redis: RedisClient, keys: Keys, node: string, incarnation: number): Promise<number> {
  const owner = ownReply.parse(await own.call(redis, [keys.nodeInboxLoad(node)], [incarnation]));
  try {
    const inbox = keys.nodeInbox(node);
    await writeIndex(redis, inbox, "stream", () => redis.xgroup("CREATE", inbox, GROUP, "0", "MKSTREAM"));
  } catch (error) {
    if (!(error instanceof Error && error.message.startsWith("BUSYGROUP"))) throw error;
  }
  return owner;
}

const ownReply = z.int();

/** Does this error mean that the inbox is gone with its group: Redis came back empty, or the node was forgotten? */
export const isInboxGone = (error: unknown): boolean =>
  error instanceof Error && /^(NOGROUP|WRONGTYPE)\b/.test(error.message);

/** An entry that was deleted but not acknowledged comes without its fields. */
const entries = z.array(z.tuple([z.string(), z.array(z.string()).nullable()]));

const streams = z.array(z.tuple([z.string(), entries])).nullable();

/** Reads entries that were not handed out before. Waits at most `blockMs` for the first; needs a connection of its own. */
export async function readNewEntries(
  redis: RedisClient,
  keys: Keys,
  node: string,
  limit: number,
  blockMs: number,
): Promise<InboxEntry[]> {
  const ms = Math.max(1, Math.floor(blockMs));
  const inbox = keys.nodeInbox(node);
  return entriesOf(
    await redis.xreadgroup("GROUP", GROUP, CONSUMER, "COUNT", limit, "BLOCK", ms, "STREAMS", inbox, ">"),
  );
}

/** Entries that were handed out and not acknowledged, after the id `after` ("0": from the first on). */
export async function readPendingEntries(
  redis: RedisClient,
  keys: Keys,
  node: string,
  after: string,
  limit: number,
): Promise<InboxEntry[]> {
  const inbox = keys.nodeInbox(node);
  return entriesOf(await redis.xreadgroup("GROUP", GROUP, CONSUMER, "COUNT", limit, "STREAMS", inbox, after));
}

/** How many entries were handed out and not acknowledged. */
export async function countPendingEntries(redis: RedisClient, keys: Keys, node: string): Promise<number> {
  const [count] = await redis.xpending(keys.nodeInbox(node), GROUP);
  return Number(count);
}

/** The id of the last entry that was handed out, to this incarnation of the node or an earlier one; `0-0` if there was none. */
export async function lastEntryRead(redis: RedisClient, keys: Keys, node: string): Promise<string> {
  const groups = z.array(z.array(z.unknown())).parse(await redis.xinfo("GROUPS", keys.nodeInbox(node)));
  const [facts = []] = groups;
  return z.string().parse(facts[facts.indexOf("last-delivered-id") + 1]);
}

/** The oldest entries, whether they were handed out or not: for a node that does not read its inbox any more. */
export async function readOldestEntries(
  redis: RedisClient,
  keys: Keys,
  node: string,
  limit: number,
): Promise<InboxEntry[]> {
  const inbox = keys.nodeInbox(node);
  const read = redis.xrange(inbox, "-", "+", "COUNT", limit);
  return entriesOf([["", await readIndex(redis, inbox, "stream", read, [])]]);
}

/** When the entry with this id was put into the inbox, by Redis's clock. */
export const entryAtMs = (id: string): number => Number(id.split("-")[0]);

/** Was the entry with this id put into the inbox after the other? */
export function isLaterEntry(id: string, than: string): boolean {
  const [ms = 0, number = 0] = id.split("-").map(Number);
  const [thanMs = 0, thanNumber = 0] = than.split("-").map(Number);
  return ms > thanMs || (ms === thanMs && number > thanNumber);
}

function entriesOf(reply: unknown): InboxEntry[] {
  const [stream] = streams.parse(reply) ?? [];
  return (stream?.[1] ?? []).map(([id, fields]) => {
    const [name = "", body = ""] = fields ?? ["gone"];
    const [kind = "", share = ""] = name.split(":", 2);
    return { id, kind, body, to: share === SEVERAL ? "" : share };
  });
}

/** Thrown if an inbox belongs to a later incarnation: only that incarnation may acknowledge its entries. */
export class InboxTaken extends Error {
  override readonly name = "InboxTaken";
}

/**
 * Acknowledges entries and removes them from the inbox. Safe to repeat.
 * @throws InboxTaken
 */
export async function acknowledgeEntries(
  redis: RedisClient,
  keys: Keys,
  node: string,
  incarnation: number,
  entries: readonly InboxEntry[],
): Promise<void> {
  const parts = Array.from({ length: Math.ceil(entries.length / MOST_ACKNOWLEDGED) }, (_, index) =>
    entries.slice(index * MOST_ACKNOWLEDGED, (index + 1) * MOST_ACKNOWLEDGED),
  );
  const replies = await Promise.all(
    parts.map((part) =>
      acknowledge.call(
        redis,
        [keys.nodeInbox(node), keys.nodeInboxLoad(node)],
        [
          incarnation,
          ...part.map(({ id }) => id),
          ...part.map(({ kind, to }) => (kind === "message" ? shareOf(to) : "-")),
          ...part.map(({ body }) => Buffer.byteLength(body)),
        ],
      ),
    ),
  );
  if (replies.includes(0))
    throw new InboxTaken(`the inbox of ${node} is a later incarnation's than ${incarnation}; nothing was acknowledged`);
}
