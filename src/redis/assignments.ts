import { type Assignment, assignment } from "../domain/assignment.ts";
import { fullId, splitFullId } from "../domain/ids.ts";
import type { RedisClient } from "./client.ts";
import type { Keys } from "./keys.ts";
import { defineScript } from "./script.ts";
import { type OnUnreadable, readField, readKey } from "./unreadable.ts";

/** Of one id: creates that are refused, because another was faster, must not push out the one that came about. */
const KEPT_EACH = 8;
/** Longer than a create may wait for its node. */
const UNSEEN_KEPT_MS = 2 * 86_400_000;
/** As long as specs: without a Master that keeps them, both go. A node that was forgotten may come back meanwhile. */
const KEPT_MS = 8 * 86_400_000;
/** Stitches in one call: Lua takes so many arguments, and others wait for Redis meanwhile. */
const AT_ONCE = 1000;

/**
 * Writes down what a node is to run. KEYS assigned. ARGV stitch, assignment, ….
 * The field of a stitch has a line for each of its last assignments, the newest first: when it was written, a space, JSON.
 * Repeating it changes the time alone.
 * Atomic: of two creates of one id, planned before either was there, neither must take the other's line.
 */
const assign = defineScript<[assigned: string]>(
  "assign",
  1,
  `
only(KEYS[1], 'hash')
redis.call('PEXPIRE', KEYS[1], ${KEPT_MS})
for i = 1, #ARGV, 2 do
  local lines = {now .. ' ' .. ARGV[i + 1]}
  for line in string.gmatch(redis.call('HGET', KEYS[1], ARGV[i]) or '', '[^\\n]+') do
    if #lines < ${KEPT_EACH} and string.match(line, ' (.*)') ~= ARGV[i + 1] then lines[#lines + 1] = line end
  end
  redis.call('HSET', KEYS[1], ARGV[i], table.concat(lines, '\\n'))
end
return 1
`,
);

/** Writes down what stitches of a node are to run, by bare id, before the node hears of it. Only Masters may. Safe to repeat. */
export async function assignStitches(
  redis: RedisClient,
  keys: Keys,
  node: string,
  assigned: ReadonlyMap<string, Assignment>,
): Promise<void> {
  const rows = [...assigned].map(([stitch, each]) => [stitch, JSON.stringify(each)]);
  const calls: Promise<unknown>[] = [];
  // All of them go out before anything that is sent later.
  for (let from = 0; from < rows.length; from += AT_ONCE)
    calls.push(assign.call(redis, [keys.nodeAssigned(node)], rows.slice(from, from + AT_ONCE).flat()));
  await Promise.all(calls);
}

/**
 * What Masters have assigned under full ids, the newest first; none where nothing was, or what cannot be read. One round trip,
 * a command for each node.
 */
export async function readAssignments(
  redis: RedisClient,
  keys: Keys,
  fullIds: readonly string[],
  onUnreadable: OnUnreadable,
): Promise<Map<string, Assignment[]>> {
  const found = new Map<string, Assignment[]>();
  const byNode = Map.groupBy(fullIds.map(splitFullId), ({ node }) => node);
  await Promise.all(
    [...byNode].map(async ([node, stitches]) => {
      const key = keys.nodeAssigned(node);
      const read = redis.hmget(key, ...stitches.map(({ stitch }) => stitch));
      const texts = await readKey({ id: node, key }, read, [], onUnreadable);
      for (const [index, text] of texts.entries()) {
        const field = stitches[index]?.stitch ?? "";
        const id = fullId(node, field);
        const lines = linesOf(text ?? "").map(({ json }) =>
          readField(assignment, json, { id, key, field }, onUnreadable),
        );
        found.set(
          id,
          lines.filter((each) => each !== null),
        );
      }
    }),
  );
  return found;
}

/** All of a node: the hashes of the specs that are assigned, and the stitches of which nothing was assigned lately. */
export async function surveyAssignments(
  redis: RedisClient,
  keys: Keys,
  node: string,
  nowMs: number,
  onUnreadable: OnUnreadable,
): Promise<{ readonly specHashes: ReadonlySet<string>; readonly old: readonly string[] }> {
  const key = keys.nodeAssigned(node);
  const specHashes = new Set<string>();
  const old: string[] = [];
  const all = await readKey({ id: node, key }, redis.hgetall(key), {}, onUnreadable);
  for (const [field, text] of Object.entries(all)) {
    const lines = linesOf(text);
    for (const { json } of lines) {
      const read = readField(assignment, json, { id: fullId(node, field), key, field }, onUnreadable);
      if (read !== null) specHashes.add(read.specHash);
    }
    if ((lines[0]?.atMs ?? 0) < nowMs - UNSEEN_KEPT_MS) old.push(field);
  }
  return { specHashes, old };
}

/** KEYS assigned. ARGV ms, stitch, …. Atomic: one that has been assigned anew stays. */
const dropOld = defineScript<[assigned: string]>(
  "drop_old_assignments",
  1,
  `
for i = 2, #ARGV do
  local atMs = tonumber(string.match(redis.call('HGET', KEYS[1], ARGV[i]) or '', '^%d+') or 0)
  if atMs < now - ARGV[1] then redis.call('HDEL', KEYS[1], ARGV[i]) end
end
return 1
`,
);

/** Forgets what was assigned of stitches that are not there, where that was long ago. */
export async function dropOldAssignments(
  redis: RedisClient,
  keys: Keys,
  node: string,
  stitches: readonly string[],
): Promise<void> {
  for (let from = 0; from < stitches.length; from += AT_ONCE)
    await dropOld.call(redis, [keys.nodeAssigned(node)], [UNSEEN_KEPT_MS, ...stitches.slice(from, from + AT_ONCE)]);
}

/** What is assigned to a node that is there counts its time anew. */
export async function keepAssignments(redis: RedisClient, keys: Keys, node: string): Promise<void> {
  await redis.pexpire(keys.nodeAssigned(node), KEPT_MS);
}

/** The lines of a field, as `assign` writes them; what is no such line has no time. */
function linesOf(text: string): { readonly atMs: number; readonly json: string }[] {
  return text
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => {
      const at = line.indexOf(" ");
      return { atMs: Number(line.slice(0, Math.max(at, 0))) || 0, json: line.slice(at + 1) };
    });
}
