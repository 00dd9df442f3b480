import * as z from "zod";
import { API_SENDER, type DeadLetter, deadLetter, senderOf } from "../../domain/message.ts";
import type { RedisClient } from "../connection/client.ts";
import { aroundId, type Keys } from "../keys.ts";
import { isCluster } from "../connection/connection.ts";
import { defineScript } from "../connection/script.ts";
import { type OnUnreadable, readField, readIndex, readKey, refuse, writeIndex } from "../unreadable.ts";

/** Most dead letters that are kept at each node, and most bytes; the oldest ones are dropped first. */
const MOST_LETTERS = 10_000;
const MOST_BYTES = 64 * 1024 * 1024;
/** One sender may take an eighth of both: a flood of one sender does not drop the dead letters of the others. */
const SENDER_LETTERS = MOST_LETTERS / 8;
const SENDER_BYTES = MOST_BYTES / 8;
/** A message that nobody looked for in a week will not be looked for any more. */
const KEPT_MS = 7 * 86_400_000;
/** Most old letters that one call drops: other clients of Redis wait meanwhile. */
const OLD_AT_ONCE = 100;
/** Most nodes whose letters one call counts: other clients of Redis wait some milliseconds meanwhile. */
const NODES_AT_ONCE = 2000;

/**
 * Lua functions for the dead letters of a node; `letters` is their stream. Beside it, `ids` has each letter twice, as
 * `<share> <entry> <bytes> <sender>`, in alphabetical order. The share is the sender, or `*` for all letters, so the first
 * letter of each share is found at once. `bytes` counts the bytes of each share.
 *
 * `bury` adds a letter, at Redis's time, after it has made room in its sender's share and in `*`. If the three keys do not
 * agree, because Redis has lost a part or holds other data there, `ids` and `bytes` are built again from the stream. The
 * stream is read only then: a process that adds dead letters at other nodes may not read them.
 */
export const BURY = `
local function members(letters, share)
  return letters .. ':ids', '[' .. share .. ' ', '(' .. share .. '!'
end
local function note(letters, sender, entry, size, by)
  local ms, number = string.match(entry, '^(%d+)-(%d+)$')
  for _, share in ipairs({'*', sender}) do
    local member = string.format('%s %s-%010d %d %s', share, ms, number, size, sender)
    if by > 0 then redis.call('ZADD', letters .. ':ids', 0, member) else redis.call('ZREM', letters .. ':ids', member) end
    local bytes = redis.pcall('HINCRBY', letters .. ':bytes', share, by * size)
    if type(bytes) ~= 'number' or bytes <= 0 then redis.call('HDEL', letters .. ':bytes', share) end
  end
end
local function oldest(letters, share)
  local ids, from, to = members(letters, share)
  for _ = 1, ${MOST_LETTERS} do
    local member = redis.call('ZRANGEBYLEX', ids, from, to, 'LIMIT', 0, 1)[1]
    if not member then return nil end
    local ms, number, size, sender = string.match(member, '^%S+ (%d+)-(%d+) (%d+) (%S+)$')
    if ms then return {entry = ms .. '-' .. tonumber(number), size = size, sender = sender} end
    redis.call('ZREM', ids, member)
  end
end
local function letGo(letters, letter)
  redis.call('XDEL', letters, letter.entry)
  note(letters, letter.sender, letter.entry, letter.size, -1)
end
local function senderOf(fields)
  if fields[3] == 'from' then return fields[4] end
  local read, letter = pcall(cjson.decode, fields[2])
  local sender = read and type(letter) == 'table' and type(letter.from) == 'string' and letter.from or '?'
  return string.match(sender, '^${API_SENDER}') or string.match(sender, '^%S+$') or '?'
end
local function repair(letters)
  for suffix, want in pairs({[''] = 'stream', [':ids'] = 'zset', [':bytes'] = 'hash'}) do
    local kind = redis.call('TYPE', letters .. suffix).ok
    if kind ~= want and kind ~= 'none' then redis.call('DEL', letters .. suffix) end
  end
  local count = redis.call('XLEN', letters)
  if count == 0 then
    redis.call('DEL', letters .. ':ids', letters .. ':bytes')
    return
  end
  local counted = (tonumber(redis.call('HGET', letters .. ':bytes', '*') or 0) or 0) > 0
  if counted and redis.call('ZCARD', letters .. ':ids') == 2 * count then return end
  local from = '-'
  repeat
    local some = redis.call('XRANGE', letters, from, '+', 'COUNT', 100)
    if from == '-' then redis.call('DEL', letters .. ':ids', letters .. ':bytes') end
    for _, each in ipairs(some) do
      note(letters, senderOf(each[2]), each[1], #(each[2][2] or ''), 1)
      from = '(' .. each[1]
    end
  until #some == 0
end
local function letOldGo(letters, atMs)
  for gone = 0, ${OLD_AT_ONCE} - 1 do
    local first = oldest(letters, '*')
    if not first or tonumber(string.match(first.entry, '^%d+')) > atMs - ${KEPT_MS} then return gone end
    letGo(letters, first)
  end
  return ${OLD_AT_ONCE}
end
local function bury(letters, sender, letter, atMs)
  repair(letters)
  letOldGo(letters, atMs)
  local function makeRoom(share, most, mostBytes)
    local ids, from, to = members(letters, share)
    local count = redis.call('ZLEXCOUNT', ids, from, to)
    while count > 0 and (count >= most or
      (tonumber(redis.call('HGET', letters .. ':bytes', share) or 0) or 0) + #letter > mostBytes) do
      local first = oldest(letters, share)
      if first then letGo(letters, first) end
      count = count - 1
    end
  end
  makeRoom(sender, ${SENDER_LETTERS}, ${SENDER_BYTES})
  makeRoom('*', ${MOST_LETTERS}, ${MOST_BYTES})
  local entry = redis.call('XADD', letters, '*', 'letter', letter, 'from', sender)
  note(letters, sender, entry, #letter, 1)
  for _, suffix in ipairs({'', ':ids', ':bytes'}) do redis.call('PEXPIRE', letters .. suffix, ${KEPT_MS}) end
end
`;

type LetterKeys = [letters: string, ids: string, bytes: string];
const lettersOf = (keys: Keys, node: string): LetterKeys => [
  keys.nodeDeadLetters(node),
  keys.nodeDeadLetterIds(node),
  keys.nodeDeadLetterBytes(node),
];

/**
 * Adds dead letters, in the order given. KEYS letters, ids, bytes. ARGV sender, letter, ….
 * Atomic: the bounds hold, and every letter that is counted is there.
 */
const add = defineScript<LetterKeys>(
  "add_dead_letters",
  3,
  `${BURY}\nfor i = 1, #ARGV, 2 do bury(KEYS[1], ARGV[i], ARGV[i + 1], now) end\nreturn 1`,
);
/** Letters, and characters, in one call: other clients of Redis wait meanwhile. */
const ADDED_AT_ONCE = 100;
const CHARACTERS_AT_ONCE = 1024 * 1024;

/**
 * Drops a letter. KEYS letters, ids, bytes. ARGV entry. Returns 1, or 0 if it is gone already. Atomic: as `add_dead_letters`.
 */
const drop = defineScript<LetterKeys>(
  "drop_dead_letter",
  3,
  `
${BURY}
repair(KEYS[1])
local found = redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[1])[1]
if not found then return 0 end
letGo(KEYS[1], {entry = ARGV[1], size = #(found[2][2] or ''), sender = senderOf(found[2])})
return 1
`,
);

/** Drops letters that are too old. KEYS letters, ids, bytes. Returns how many: if it is `OLD_AT_ONCE`, more may be left. */
const letOldGo = defineScript<LetterKeys>(
  "let_old_letters_go",
  3,
  `${BURY}\nrepair(KEYS[1])\nreturn letOldGo(KEYS[1], now)`,
);

/** A dead letter (null: it cannot be read) with its place: the node that could not deliver it, and the id in its stream. */
export type PlacedLetter = { readonly node: string; readonly entry: string; readonly letter: DeadLetter | null };

/**
 * Lists a node among those that have dead letters. Called before the letters are written: letters of a node that is not
 * listed would be lost.
 */
export async function listDeadLettersOf(redis: RedisClient, keys: Keys, node: string): Promise<void> {
  await writeIndex(redis, keys.deadLetterNodes, "set", () => redis.sadd(keys.deadLetterNodes, node));
}

/** Adds dead letters, in the order given; older ones are dropped if there is no room. Repeating it adds them twice. */
export async function addDeadLetters(
  redis: RedisClient,
  keys: Keys,
  node: string,
  letters: readonly DeadLetter[],
): Promise<void> {
  if (letters.length === 0) return;
  await listDeadLettersOf(redis, keys, node);
  let part: string[] = [];
  let characters = 0;
  for (const letter of letters) {
    const text = JSON.stringify(letter);
    if (part.length === 2 * ADDED_AT_ONCE || (part.length > 0 && characters + text.length > CHARACTERS_AT_ONCE)) {
      // One after the other: commands that are sent together may be redirected, and then arrive in another order.
      await add.call(redis, lettersOf(keys, node), part);
      part = [];
      characters = 0;
    }
    part.push(senderOf(letter), text);
    characters += text.length;
  }
  await add.call(redis, lettersOf(keys, node), part);
}

/** A node that has dead letters: how many, and how many bytes they take. */
export type LettersOfNode = { readonly node: string; readonly count: number; readonly bytes: number };

/**
 * Counts the dead letters of each listed node. Not for a Cluster. ARGV list of nodes, what stands before and after a node's id in the
 * key of its letters, the same of their bytes, the same of its meta.
 * Returns {{node, letters, bytes, 1 if the node is known}, …}; false if there are too many nodes for one call, or if a key has another
 * type.
 */
const count = defineScript<[]>(
  "count_dead_letters",
  0,
  `
local size, reply = redis.pcall('SCARD', ARGV[1]), {}
if type(size) == 'table' or size > ${NODES_AT_ONCE} then return false end
for i, node in ipairs(redis.call('SMEMBERS', ARGV[1])) do
  local letters = redis.pcall('XLEN', ARGV[2] .. node .. ARGV[3])
  if type(letters) == 'table' then return false end
  local bytes = redis.pcall('HGET', ARGV[4] .. node .. ARGV[5], '*')
  reply[i] = {node, letters, type(bytes) == 'string' and tonumber(bytes) or 0, redis.call('EXISTS', ARGV[6] .. node .. ARGV[7])}
end
return reply
`,
);

const countReply = z.array(z.tuple([z.string(), z.number(), z.number(), z.number()])).nullable();

/**
 * Nodes that have dead letters, sorted. Drops the pointers to nodes that are forgotten and have none left. On a single Redis, one round
 * trip.
 */
export async function nodesWithDeadLetters(redis: RedisClient, keys: Keys): Promise<LettersOfNode[]> {
  const listed = (isCluster(redis) ? null : await countAtOnce(redis, keys)) ?? (await countByKeys(redis, keys));
  // A node that is not forgotten may be adding a letter at this moment.
  const gone = listed.filter((each) => each.count === 0 && !each.isKnown).map(({ node }) => node);
  if (gone.length > 0) await redis.srem(keys.deadLetterNodes, ...gone);
  return listed.filter((each) => each.count > 0).sort((a, b) => (a.node < b.node ? -1 : 1));
}

type Counted = LettersOfNode & { readonly isKnown: boolean };

async function countAtOnce(redis: RedisClient, keys: Keys): Promise<Counted[] | null> {
  const around = [
    ...aroundId((id) => keys.nodeDeadLetters(id)),
    ...aroundId((id) => keys.nodeDeadLetterBytes(id)),
    ...aroundId((id) => keys.nodeMeta(id)),
  ];
  const reply = countReply.parse(await count.call(redis, [], [keys.deadLetterNodes, ...around]));
  return reply?.map(([node, letters, bytes, known]) => ({ node, count: letters, bytes, isKnown: known === 1 })) ?? null;
}

async function countByKeys(redis: RedisClient, keys: Keys): Promise<Counted[]> {
  const nodes = await readIndex(redis, keys.deadLetterNodes, "set", redis.smembers(keys.deadLetterNodes), []);
  return Promise.all(
    nodes.map(async (node) => {
      const [letters, bytes] = [keys.nodeDeadLetters(node), keys.nodeDeadLetterBytes(node)];
      const [has, takes, known] = await Promise.all([
        readIndex(redis, letters, "stream", redis.xlen(letters), 0),
        readKey({ id: node, key: bytes }, redis.hget(bytes, "*"), null, () => undefined),
        redis.exists(keys.nodeMeta(node)),
      ]);
      return { node, count: has, bytes: Number(takes) || 0, isKnown: known === 1 };
    }),
  );
}

/** Lists those of the nodes that have dead letters, in case the list has been lost. */
export async function relistDeadLetters(redis: RedisClient, keys: Keys, nodes: readonly string[]): Promise<void> {
  const counts = await Promise.all(nodes.map((node) => redis.exists(keys.nodeDeadLetters(node))));
  await Promise.all(
    nodes.filter((_, index) => counts[index] === 1).map((node) => listDeadLettersOf(redis, keys, node)),
  );
}

/** A node's dead letters after an entry (null: from the first on), oldest first. */
export async function listDeadLetters(
  redis: RedisClient,
  keys: Keys,
  node: string,
  after: string | null,
  limit: number,
  onUnreadable: OnUnreadable = refuse,
): Promise<PlacedLetter[]> {
  const from = after === null ? "-" : `(${after}`;
  const letters = keys.nodeDeadLetters(node);
  const rows = await readIndex(redis, letters, "stream", redis.xrange(letters, from, "+", "COUNT", limit), []);
  return rows.map(([entry, fields]) => ({ node, entry, letter: letterOf(keys, node, entry, fields, onUnreadable) }));
}

/** Drops a node's dead letters that have been kept for a week. */
export async function dropOldDeadLetters(redis: RedisClient, keys: Keys, node: string): Promise<void> {
  while ((await letOldGo.call(redis, lettersOf(keys, node), [])) === OLD_AT_ONCE);
}

export async function readDeadLetter(
  redis: RedisClient,
  keys: Keys,
  node: string,
  entry: string,
): Promise<DeadLetter | null> {
  const [row] = await redis.xrange(keys.nodeDeadLetters(node), entry, entry);
  return row === undefined ? null : letterOf(keys, node, entry, row[1], refuse);
}

/** @returns false if the letter is gone already. */
export async function dropDeadLetter(redis: RedisClient, keys: Keys, node: string, entry: string): Promise<boolean> {
  return (await drop.call(redis, lettersOf(keys, node), [entry])) === 1;
}

/** @returns null if the letter cannot be read, unless `onUnreadable` throws. */
function letterOf(
  keys: Keys,
  node: string,
  entry: string,
  fields: readonly string[],
  onUnreadable: OnUnreadable,
): DeadLetter | null {
  const at = { id: `the dead letter ${node}.${entry}`, key: keys.nodeDeadLetters(node), field: "letter" };
  return readField(deadLetter, fields[fields.indexOf("letter") + 1] ?? "", at, onUnreadable);
}
