import * as z from "zod";
import { type DeadLetter, senderOf } from "../../domain/message.ts";
import type { RedisClient } from "../connection/client.ts";
import { BURY, listDeadLettersOf } from "./dead-letters.ts";
import type { Keys } from "../keys.ts";
import { defineScript } from "../connection/script.ts";
import { readIndex, writeIndex } from "../unreadable.ts";

/** Entries that an inbox takes; some MB of questions. */
export const MAX_ENTRIES = 10_000;
/** Of these, messages may take so many, and so many bytes: there is always room for a question. */
const MAX_MESSAGES = 8000;
const MAX_MESSAGE_BYTES = 32 * 1024 * 1024;
/** Of both, what waits for one stitch may take an eighth: a deaf one must not fill its neighbours' share. */
export const STITCH_MESSAGES = MAX_MESSAGES / 8;
export const STITCH_BYTES = MAX_MESSAGE_BYTES / 8;
/** What is for several has one share, half of both: a flood to a group leaves room for what is for one stitch. */
export const SEVERAL_MESSAGES = MAX_MESSAGES / 2;
export const SEVERAL_BYTES = MAX_MESSAGE_BYTES / 2;
/** The name of that share in Redis; no stitch can have the id. */
const SEVERAL = "*";
/** How long a message that was sent with an idempotency key is known again (http.md, "Messages"). */
export const MESSAGE_KEPT_MS = 600_000;
/** One group, and in it one consumer for every life of the node: what one life did not acknowledge, the next finds. */
const GROUP = "node";
const CONSUMER = "node";
/** Field of an inbox's load: the incarnation whose inbox it is. With it that hash is never empty, and so always there. */
const OWNER = "incarnation";

/** KEYS load. ARGV incarnation. Returns whose it is now. Atomic: it never goes back to a former incarnation. */
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

/** What a node is asked, as JSON. `reply` names the answer, `asker` the process that waits for it, until `untilMs` by Redis's clock. */
export const question = z.object({
  name: z.string(),
  args: z.record(z.string(), z.unknown()),
  reply: z.string(),
  asker: z.string(),
  untilMs: z.number(),
});
export type Question = z.output<typeof question>;

/**
 * In Redis an entry has one field: its value is the body, its name `question`, or `message:` and the stitch it is for, or
 * `*` for several. One, since to read an entry costs by the strings it has.
 */
export type InboxEntry = {
  readonly id: string;
  /** What the body is: "question", "message", what a later version knows, or "gone" where the entry is not there any more. */
  readonly kind: string;
  readonly body: string;
  /** Of a message: the stitch it is for, or "" for several. */
  readonly to: string;
};

/**
 * Puts a question into a node's inbox. KEYS inbox. ARGV bound, question. Returns its id, or false where the inbox is full.
 * Atomic: senders at once must not fill it beyond its bound.
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

const PUT_MESSAGES = `
local inbox, load, letters, messages = KEYS[1], KEYS[2], ARGV[2], tonumber(ARGV[3])
if redis.call('TYPE', inbox).ok ~= 'stream' then
  redis.call('DEL', inbox)
  return -1
end
local all = redis.pcall('HMGET', load, 'n', 'b')
if all.err then redis.call('DEL', load) end
local count, bytes = tonumber(all[1] or 0) or 0, tonumber(all[2] or 0) or 0
local refused, counts, sizes, full = {}, {}, {}, {}
for i = 1, messages do
  local stitch, body = ARGV[2 * i + 2], ARGV[2 * i + 3]
  local size = #body
  local room = not full[stitch] and count < ${MAX_MESSAGES} and (count == 0 or bytes + size <= ${MAX_MESSAGE_BYTES})
  if room then
    if not counts[stitch] then
      local its = redis.call('HMGET', load, 'n:' .. stitch, 'b:' .. stitch)
      counts[stitch], sizes[stitch] = tonumber(its[1] or 0) or 0, tonumber(its[2] or 0) or 0
    end
    local most, mostBytes = ${STITCH_MESSAGES}, ${STITCH_BYTES}
    if stitch == '${SEVERAL}' then most, mostBytes = ${SEVERAL_MESSAGES}, ${SEVERAL_BYTES} end
    room = counts[stitch] < most and (counts[stitch] == 0 or sizes[stitch] + size <= mostBytes)
  end
  if room then
    redis.call('XADD', inbox, '*', 'message:' .. stitch, body)
    count, bytes = count + 1, bytes + size
    counts[stitch], sizes[stitch] = counts[stitch] + 1, sizes[stitch] + size
  else
    full[stitch] = true
    refused[#refused + 1] = i
  end
end
local fields = {'n', count, 'b', bytes}
for stitch, n in pairs(counts) do
  fields[#fields + 1], fields[#fields + 2] = 'n:' .. stitch, n
  fields[#fields + 1], fields[#fields + 2] = 'b:' .. stitch, sizes[stitch]
end
redis.call('HSET', load, unpack(fields))
if #refused == 0 then return refused end
local meta, t = redis.pcall('HMGET', ARGV[1], 'leaseUntil', 'left'), redis.call('TIME')
local atMs = t[1] * 1000 + math.floor(t[2] / 1000)
local away = not meta.err and (meta[2] or (meta[1] and (tonumber(meta[1]) or 0) <= atMs))
if away and letters ~= '' then
${BURY}
  for _, i in ipairs(refused) do
    local at = 2 * messages + 3 * i + 1
    for to in string.gmatch(ARGV[at + 1], '%S+') do
      local letter = '{"to":"' .. to .. '",' .. string.sub(ARGV[at + 2], 2)
      if not pcall(bury, letters, ARGV[at], letter, atMs) then away = false end
    end
  end
end
table.insert(refused, 1, away and 1 or 0)
return refused
`;

/**
 * Puts messages into a node's inbox, in their order. KEYS inbox, its load. ARGV the node's meta; where what finds no room
 * goes if the node is away, or ''; how many messages; for each the share it counts in and the body; then, with a place for
 * letters, for each its sender, the full ids that it is for, and its dead letter without them.
 * Returns -1 where there is no inbox, and so no node (what is no stream is deleted: the node makes its inbox anew); nothing
 * where all are stored; else whether the node is away (its lease has ended, or it has left), and which, from 1 on, there is no
 * room for: with a place for letters these are there now if it is.
 * Once one is refused, so are all later ones for the same stitch in this call: a smaller one must not overtake it. What is
 * larger than the bound itself has room where nothing else waits.
 * The node's meta and letters are not declared: senders may not write the one and not read the other, and while a slot moves
 * a declared key that is not there would refuse what has room. Where they cannot be had the node counts as alive.
 * Atomic: the bounds hold whoever sends, the load says what the inbox holds, and a node that is back buries nothing.
 */
const putMessagesScript = defineScript<[inbox: string, load: string]>("put_messages", 2, PUT_MESSAGES);

/**
 * Puts a message into a node's inbox, unless it was put there before. KEYS inbox, its load, the mark of this message. ARGV
 * and what it returns: as above. Atomic: of two who send the same message one does, and a crash leaves it sent or not.
 */
const putOnceScript = defineScript<[inbox: string, load: string, mark: string]>(
  "put_message_once",
  3,
  `
local mark = redis.call('GET', KEYS[3])
if mark then return mark == 'buried' and {1, 1} or {} end
local function put()
${PUT_MESSAGES}
end
local reply = put()
if type(reply) == 'table' and (#reply == 0 or (reply[1] == 1 and ARGV[2] ~= '')) then
  redis.call('SET', KEYS[3], #reply == 0 and 'stored' or 'buried', 'PX', ${MESSAGE_KEPT_MS})
end
return reply
`,
);

/**
 * The node is done with entries. KEYS inbox, its load. ARGV incarnation; their ids; then for each the stitch it was for
 * ('' for several; '-' for a question); then for each the bytes of its body. Returns 1, or 0 where the inbox is a later
 * incarnation's: what a former one has sent late must not take out what that one has in hand.
 * Where they were all handed out and not acknowledged, as is the rule, they are all there and go together; else one by one,
 * to see which are. What is counted never goes below nothing: a load that was lost counts from there.
 * Atomic: an entry is never acknowledged and left there for good, nor counted after it is gone.
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
/** In one call; what Lua can take apart at once has an end. */
const MOST_ACKNOWLEDGED = 1000;

/**
 * Ends an inbox in which nothing is left. KEYS inbox, its load. Returns 1, or 0 where something is in it.
 * Atomic: what somebody puts there is either seen by whoever ends it or refused.
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

/** Ends an empty inbox: nobody can send to its node any more. @returns false where it is not empty. Safe to repeat. */
export async function dropInbox(redis: RedisClient, keys: Keys, node: string): Promise<boolean> {
  return (await drop.call(redis, [keys.nodeInbox(node), keys.nodeInboxLoad(node)], [])) === 1;
}

/**
 * A message with its place in the inbox: the stitch it is for, or "" for several. `burial`: what is left of it where there is
 * no room and its node is away: a dead letter for each of these full ids.
 */
export type Posted = { readonly stitch: string; readonly body: string; readonly burial?: Burial };
export type Burial = { readonly to: readonly string[]; readonly letter: Omit<DeadLetter, "to"> };

/**
 * Is it in the inbox, is there no such node, or has it no room there? Then `away` where the node's lease has ended or it has
 * left, and `buried` where it is among the node's dead letters now.
 */
export type PutResult = "stored" | "full" | "away" | "buried" | "gone";

/**
 * Puts messages into a node's inbox, in their order. All of them have a burial or none: first without, so that who has room
 * waits for nothing else. @returns what became of each.
 */
export async function putMessages(
  redis: RedisClient,
  keys: Keys,
  node: string,
  posted: readonly Posted[],
): Promise<PutResult[]> {
  const args = await putArguments(redis, keys, node, posted);
  return placedOf(await putMessagesScript.call(redis, [keys.nodeInbox(node), keys.nodeInboxLoad(node)], args), posted);
}

/** Puts a message into a node's inbox once: repeating it with the same id does nothing, for as long as its key is known. */
export async function putMessageOnce(
  redis: RedisClient,
  keys: Keys,
  node: string,
  id: string,
  posted: Posted,
): Promise<PutResult> {
  const args = await putArguments(redis, keys, node, [posted]);
  const reply = await putOnceScript.call(
    redis,
    [keys.nodeInbox(node), keys.nodeInboxLoad(node), keys.sentMark(node, id)],
    args,
  );
  return placedOf(reply, [posted])[0] ?? "full";
}

async function putArguments(redis: RedisClient, keys: Keys, node: string, posted: readonly Posted[]) {
  const burials = posted.flatMap(({ burial }) => (burial === undefined ? [] : [burial]));
  if (burials.length > 0) await listDeadLettersOf(redis, keys, node);
  return [
    keys.nodeMeta(node),
    burials.length === 0 ? "" : keys.nodeDeadLetters(node),
    posted.length,
    ...posted.flatMap(({ stitch, body }) => [shareOf(stitch), body]),
    ...burials.flatMap(({ to, letter }) => [senderOf(letter), to.join(" "), JSON.stringify(letter)]),
  ];
}

const shareOf = (stitch: string): string => (stitch === "" ? SEVERAL : stitch);

function placedOf(reply: unknown, posted: readonly Posted[]): PutResult[] {
  if (reply === -1) return posted.map(() => "gone");
  const [away, ...indices] = refusedReply.parse(reply);
  const refused = new Set(indices);
  return posted.map(({ burial }, index) =>
    !refused.has(index + 1) ? "stored" : away !== 1 ? "full" : burial === undefined ? "away" : "buried",
  );
}

const refusedReply = z.array(z.int());

/** Asks a node. @returns false where its inbox is full. */
export async function putQuestion(redis: RedisClient, keys: Keys, node: string, asked: Question): Promise<boolean> {
  return (await putQuestionScript.call(redis, [keys.nodeInbox(node)], [MAX_ENTRIES, JSON.stringify(asked)])) !== null;
}

/**
 * Makes the inbox and its group where they are not there, and takes it for an incarnation of the node. Safe to repeat.
 * @returns whose it is now: a later incarnation's is not taken.
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

/** Is this error an inbox that is gone with its group: a Redis that came back empty, or a node that was forgotten? */
export const isInboxGone = (error: unknown): boolean =>
  error instanceof Error && /^(NOGROUP|WRONGTYPE)\b/.test(error.message);

/** An entry that was deleted without being acknowledged comes without its fields. */
const entries = z.array(z.tuple([z.string(), z.array(z.string()).nullable()]));
const streams = z.array(z.tuple([z.string(), entries])).nullable();

/** Entries that nobody had before; waits at most `blockMs` for the first, on a connection of its own. */
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

/** The last entry that was handed out, to this life of the node or an earlier one; `0-0` where none was. */
export async function lastEntryRead(redis: RedisClient, keys: Keys, node: string): Promise<string> {
  const groups = z.array(z.array(z.unknown())).parse(await redis.xinfo("GROUPS", keys.nodeInbox(node)));
  const [facts = []] = groups;
  return z.string().parse(facts[facts.indexOf("last-delivered-id") + 1]);
}

/** The oldest entries, whether they were handed out or not: of a node that takes none any more. */
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

/** Thrown where an inbox is a later incarnation's: what is in it is for that one to acknowledge. */
export class InboxTaken extends Error {
  override readonly name = "InboxTaken";
}

/**
 * Takes entries out of the inbox. Safe to repeat.
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
