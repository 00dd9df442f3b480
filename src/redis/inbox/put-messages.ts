import * as z from "zod";
import { type DeadLetter, senderOf } from "../../domain/message.ts";
import type { RedisClient } from "../connection/client.ts";
import { BURY, listDeadLettersOf } from "./dead-letters.ts";
import type { Keys } from "../keys.ts";
import { defineScript } from "../connection/script.ts";

/** Of an inbox, messages may take so many entries, and so many bytes: there is always room for a question. */
const MAX_MESSAGES = 8000;
const MAX_MESSAGE_BYTES = 32 * 1024 * 1024;

/** Of both, what waits for one stitch may take an eighth: a deaf one must not fill its neighbours' share. */
export const STITCH_MESSAGES = MAX_MESSAGES / 8;
export const STITCH_BYTES = MAX_MESSAGE_BYTES / 8;

/** What is for several has one share, half of both: a flood to a group leaves room for what is for one stitch. */
export const SEVERAL_MESSAGES = MAX_MESSAGES / 2;
export const SEVERAL_BYTES = MAX_MESSAGE_BYTES / 2;

/** The name of that share in Redis; no stitch can have the id. */
export const SEVERAL = "*";

/** How long a message that was sent with an idempotency key is known again (http.md, "Messages"). */
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
