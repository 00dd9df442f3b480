import * as z from "zod";
import { type DeadLetter, senderOf } from "../../domain/message.ts";
import type { RedisClient } from "../connection/client.ts";
import { BURY, listDeadLettersOf } from "./dead-letters.ts";
import type { Keys } from "../keys.ts";
import { defineScript } from "../connection/script.ts";

/** Most entries, and most bytes, that messages may take in an inbox: there is always room for a question. */
const MAX_MESSAGES = 8000;
const MAX_MESSAGE_BYTES = 32 * 1024 * 1024;

/**
 * Messages for one stitch may take an eighth of both: a stitch that does not take its messages must not fill its
 * neighbours' share.
 */
export const STITCH_MESSAGES = MAX_MESSAGES / 8;
export const STITCH_BYTES = MAX_MESSAGE_BYTES / 8;

/** Messages for several stitches have one share, half of both: a flood to a group leaves room for messages for one stitch. */
export const SEVERAL_MESSAGES = MAX_MESSAGES / 2;
export const SEVERAL_BYTES = MAX_MESSAGE_BYTES / 2;

/** The name of that share in Redis; no stitch can have this id. */
export const SEVERAL = "*";

/** How long a message that was sent with an idempotency key is remembered (http.md, "Messages"). */
export const MESSAGE_KEPT_MS = 600_000;

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
 * Puts messages into a node's inbox, in their order. KEYS inbox, its load. ARGV the node's meta; the key of the dead
 * letters for messages without room, if the node is away, or ''; how many messages; for each message the share it counts in
 * and its body; then, if there is a key for dead letters, for each message its sender, the full ids that it is for, and its
 * dead letter without those ids.
 * Returns -1 if there is no inbox, and so no node (a key that is not a stream is deleted: the node creates its inbox
 * again); an empty list if all messages are stored; else 1 if the node is away (its lease has ended, or it has left) or 0,
 * then the numbers, from 1 on, of the messages that have no room. If the node is away and there is a key for dead letters,
 * these are dead letters now.
 * When a message is refused, all later ones for the same stitch in this call are refused, too: a smaller one must not
 * overtake it. A message that is larger than the bound itself has room if nothing else waits.
 * The node's meta and dead letters are not declared in KEYS: senders may not write the meta and may not read the dead
 * letters, and while a slot moves, Redis would refuse the call if a declared key does not exist, though there is room. If
 * meta or dead letters cannot be used, the node counts as alive.
 * Atomic: the bounds hold for all senders, the load matches the inbox, and no message is buried for a node that is back.
 */
const putMessagesScript = defineScript<[inbox: string, load: string]>("put_messages", 2, PUT_MESSAGES);

/**
 * Puts a message into a node's inbox, unless it was put there before. KEYS inbox, its load, the mark of this message. ARGV
 * and result: as above. Atomic: if two processes send the same message, only one of them puts it there; after a crash it is
 * either sent or not.
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
 * A message with its place in the inbox: the stitch it is for, or "" for several. `burial`: the dead letter that is kept
 * for each of these full ids if there is no room and the node is away.
 */
export type Posted = { readonly stitch: string; readonly body: string; readonly burial?: Burial };

export type Burial = { readonly to: readonly string[]; readonly letter: Omit<DeadLetter, "to"> };

/**
 * What became of a message. "stored": it is in the inbox. "gone": there is no such node. The others mean that the inbox has
 * no room: "away" if the node's lease has ended or the node has left; "buried" if the message is among the node's dead
 * letters now; else "full".
 */
export type PutResult = "stored" | "full" | "away" | "buried" | "gone";

/**
 * Puts messages into a node's inbox, in their order. Either all of them have a burial or none has. Callers first call it
 * without burials, so that messages that have room wait for nothing else. @returns what became of each message.
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

/**
 * Puts a message into a node's inbox once: repeating it with the same id does nothing while its idempotency key is remembered.
 */
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

export const shareOf = (stitch: string): string => (stitch === "" ? SEVERAL : stitch);

function placedOf(reply: unknown, posted: readonly Posted[]): PutResult[] {
  if (reply === -1) return posted.map(() => "gone");
  const [away, ...indices] = refusedReply.parse(reply);
  const refused = new Set(indices);
  return posted.map(({ burial }, index) =>
    !refused.has(index + 1) ? "stored" : away !== 1 ? "full" : burial === undefined ? "away" : "buried",
  );
}

const refusedReply = z.array(z.int());
