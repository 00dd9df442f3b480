import { type Assignment, type AssignmentEnd, assignment, type KeptAssignment } from "../../domain/job/assignment.ts";
import { fullId, splitFullId } from "../../domain/names/ids.ts";
import { parseRevision } from "../../domain/names/revision.ts";
import type { RedisClient } from "../connection/client.ts";
import type { Keys } from "../keys.ts";
import { defineScript } from "../connection/script.ts";
import { type At, type OnUnreadable, readField, readKey } from "../unreadable.ts";

/** Most assignments of one id that are over and still kept: one of them may be brought back. */
const KEPT_OVER = 4;
/** Most other assignments of one id: creates that wait for a node that is away. */
const KEPT_OPEN = 32;
/** Longer than a removed stitch can be brought back. */
const OVER_KEPT_MS = 2 * 86_400_000;
/** Longer than specs: without a Master that keeps them, both expire. A forgotten node may come back meanwhile. */
const KEPT_MS = 10 * 86_400_000;
/** Stitches in one call: Lua takes only a limited number of arguments, and other clients of Redis wait meanwhile. */
const AT_ONCE = 1000;

/**
 * Records what a node is to run. KEYS assigned. ARGV stitch, assignment, ….
 * The field of a stitch has a line for each of its last assignments, the newest first: when it was written, `x` if it is
 * over, a space, JSON. Repeating it changes only the time; an assignment that is over stays over.
 * Atomic: two creates of one id may both be planned before either is there; neither may delete the line of the other.
 */
const assign = defineScript<[assigned: string]>(
  "assign",
  1,
  `
only(KEYS[1], 'hash')
for i = 1, #ARGV, 2 do
  local lines, over, open, mark = {}, 0, 1, ''
  for line in string.gmatch(redis.call('HGET', KEYS[1], ARGV[i]) or '', '[^\\n]+') do
    local x, json = string.match(line, '^%d+(x?) (.*)$')
    if json == ARGV[i + 1] then mark = x
    elseif x == 'x' and over < ${KEPT_OVER} then
      over = over + 1
      lines[#lines + 1] = line
    elseif x == '' and open < ${KEPT_OPEN} then
      open = open + 1
      lines[#lines + 1] = line
    end
  end
  table.insert(lines, 1, now .. mark .. ' ' .. ARGV[i + 1])
  redis.call('HSET', KEYS[1], ARGV[i], table.concat(lines, '\\n'))
end
redis.call('PEXPIRE', KEYS[1], ${KEPT_MS})
return 1
`,
);

/** Records what stitches of a node are to run, by bare id, before the node hears of it. Only for Masters. Safe to repeat. */
export async function assignStitches(
  redis: RedisClient,
  keys: Keys,
  node: string,
  assigned: ReadonlyMap<string, Assignment>,
): Promise<void> {
  const rows = [...assigned].map(([stitch, each]) => [stitch, JSON.stringify(each)]);
  const calls: Promise<unknown>[] = [];
  // All calls are sent before anything that is sent later.
  for (let from = 0; from < rows.length; from += AT_ONCE)
    calls.push(assign.call(redis, [keys.nodeAssigned(node)], rows.slice(from, from + AT_ONCE).flat()));
  await Promise.all(calls);
}

/**
 * Marks assignments that are over. KEYS assigned. ARGV stitch, `created` or `removed`, revision, wave, born or '', ….
 * `created` marks the assignment of that create. `removed` marks all that were placed before that removal, of the stitch
 * with this `born` ('': of any).
 * Atomic: an assignment that is written meanwhile stays.
 */
const end = defineScript<[assigned: string]>(
  "end_assignments",
  1,
  `
if redis.call('TYPE', KEYS[1]).ok ~= 'hash' then return 0 end
for i = 1, #ARGV, 5 do
  local lines = {}
  for line in string.gmatch(redis.call('HGET', KEYS[1], ARGV[i]) or '', '[^\\n]+') do
    local at, x, json = string.match(line, '^(%d+)(x?) (.*)$')
    local read, row = pcall(cjson.decode, json or '')
    if read and type(row) == 'table' and x == '' then
      local revision, wave = string.match(tostring(row.placed), '^(%d+)%.(%d+)$')
      local own, ownWave = tonumber(ARGV[i + 2]), tonumber(ARGV[i + 3])
      revision, wave = tonumber(revision or -1), tonumber(wave or -1)
      local same = revision == own and wave == ownWave
      local before = revision < own or (revision == own and wave < ownWave)
      local meant = ARGV[i + 4] == '' or row.born == ARGV[i + 4]
      if (ARGV[i + 1] == 'created' and same) or (ARGV[i + 1] == 'removed' and before and meant) then
        line = now .. 'x ' .. json
      end
    end
    lines[#lines + 1] = line
  end
  if #lines > 0 then redis.call('HSET', KEYS[1], ARGV[i], table.concat(lines, '\\n')) end
end
return 1
`,
);

/** Marks the assignments that are over with the end of a job. Safe to repeat. */
export async function endAssignments(
  redis: RedisClient,
  keys: Keys,
  node: string,
  ends: readonly AssignmentEnd[],
): Promise<void> {
  const rows = ends.map((each) => {
    const [kind, text, born] =
      "created" in each
        ? (["created", each.created, ""] as const)
        : (["removed", each.removed, each.born ?? ""] as const);
    const { revision, wave } = parseRevision(text);
    return [each.stitch, kind, revision, wave, born];
  });
  for (let from = 0; from < rows.length; from += AT_ONCE)
    await end.call(redis, [keys.nodeAssigned(node)], rows.slice(from, from + AT_ONCE).flat());
}

/**
 * What Masters have assigned under full ids, the newest first; nothing if there is none, or if it cannot be read. One round
 * trip, one command for each node.
 */
export async function readAssignments(
  redis: RedisClient,
  keys: Keys,
  fullIds: readonly string[],
  onUnreadable: OnUnreadable,
): Promise<Map<string, KeptAssignment[]>> {
  const found = new Map<string, KeptAssignment[]>();
  const byNode = Map.groupBy(fullIds.map(splitFullId), ({ node }) => node);
  await Promise.all(
    [...byNode].map(async ([node, stitches]) => {
      const key = keys.nodeAssigned(node);
      const read = redis.hmget(key, ...stitches.map(({ stitch }) => stitch));
      const texts = await readKey({ id: node, key }, read, [], onUnreadable);
      for (const [index, text] of texts.entries()) {
        const field = stitches[index]?.stitch ?? "";
        const id = fullId(node, field);
        found.set(id, readLines(text ?? "", { id, key, field }, onUnreadable));
      }
    }),
  );
  return found;
}

/** All that Masters have assigned to a node, by full id, the newest first; without what cannot be read. One round trip. */
export async function readAssignmentsOf(
  redis: RedisClient,
  keys: Keys,
  node: string,
  onUnreadable: OnUnreadable,
): Promise<Map<string, ReturnType<typeof readLines>>> {
  const key = keys.nodeAssigned(node);
  const all = await readKey({ id: node, key }, redis.hgetall(key), {}, onUnreadable);
  return new Map(
    Object.entries(all).map(([field, text]) => {
      const id = fullId(node, field);
      return [id, readLines(text, { id, key, field }, onUnreadable)];
    }),
  );
}

/**
 * Looks through all assignments of a node. @returns the hashes of the assigned specs, and the stitches whose assignments have all
 * been over for `OVER_KEPT_MS`.
 */
export async function surveyAssignments(
  redis: RedisClient,
  keys: Keys,
  node: string,
  nowMs: number,
  onUnreadable: OnUnreadable,
): Promise<{ readonly specHashes: ReadonlySet<string>; readonly over: readonly string[] }> {
  const specHashes = new Set<string>();
  const over: string[] = [];
  for (const [id, lines] of await readAssignmentsOf(redis, keys, node, onUnreadable)) {
    for (const { specHash } of lines) specHashes.add(specHash);
    if (lines.every(({ isOver, atMs }) => isOver && atMs < nowMs - OVER_KEPT_MS)) over.push(splitFullId(id).stitch);
  }
  return { specHashes, over };
}

/** Deletes the assignments of stitches. KEYS assigned. ARGV stitch, …. Atomic: a stitch that has been assigned again stays. */
const drop = defineScript<[assigned: string]>(
  "drop_assignments",
  1,
  `
for i = 1, #ARGV do
  local isOver = true
  for line in string.gmatch(redis.call('HGET', KEYS[1], ARGV[i]) or '', '[^\\n]+') do
    if string.match(line, '^%d+ ') then isOver = false end
  end
  if isOver then redis.call('HDEL', KEYS[1], ARGV[i]) end
end
return 1
`,
);

/** Deletes the assignments of stitches, if all of them are over. */
export async function dropAssignments(
  redis: RedisClient,
  keys: Keys,
  node: string,
  stitches: readonly string[],
): Promise<void> {
  for (let from = 0; from < stitches.length; from += AT_ONCE)
    await drop.call(redis, [keys.nodeAssigned(node)], stitches.slice(from, from + AT_ONCE));
}

/** Restarts the time after which a node's assignments expire: they are kept for a node that is there. */
export async function keepAssignments(redis: RedisClient, keys: Keys, node: string): Promise<void> {
  await redis.pexpire(keys.nodeAssigned(node), KEPT_MS);
}

/** Parses the lines of a field, as `assign` writes them, without those that cannot be read. */
function readLines(text: string, at: At, onUnreadable: OnUnreadable): (KeptAssignment & { readonly atMs: number })[] {
  return text
    .split("\n")
    .filter((line) => line !== "")
    .flatMap((line) => {
      const [, atMs, mark, json = ""] = /^(\d+)(x?) (.*)$/.exec(line) ?? [];
      const read = readField(assignment, json, at, onUnreadable);
      return read === null ? [] : [{ ...read, isOver: mark === "x", atMs: Number(atMs) }];
    });
}
