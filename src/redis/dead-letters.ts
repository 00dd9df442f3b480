import { type DeadLetter, deadLetter } from "../domain/message.ts";
import type { RedisClient } from "./client.ts";
import type { Keys } from "./keys.ts";

/** Kept for each node; the oldest go first. A message that nobody looked for among ten thousand is not looked for. */
export const MOST_LETTERS = 10_000;

/** A dead letter with its place: the node that could not deliver it, and the id in that node's stream. */
export type PlacedLetter = { readonly node: string; readonly entry: string; readonly letter: DeadLetter };

/** Has a node listed among those that have dead letters. Before they are written: a letter that is not listed would be lost. */
export async function listDeadLettersOf(redis: RedisClient, keys: Keys, node: string): Promise<void> {
  await redis.sadd(keys.deadLetterNodes, node);
}

/** Keeps dead letters, in the order given. Repeating it keeps them twice. */
export async function addDeadLetters(
  redis: RedisClient,
  keys: Keys,
  node: string,
  letters: readonly DeadLetter[],
): Promise<void> {
  if (letters.length === 0) return;
  await listDeadLettersOf(redis, keys, node);
  await Promise.all(
    letters.map((letter) =>
      redis.xadd(keys.nodeDeadLetters(node), "MAXLEN", "~", MOST_LETTERS, "*", "letter", JSON.stringify(letter)),
    ),
  );
}

/** Nodes that have dead letters, sorted. Drops the pointers of those that are forgotten and have none left. */
export async function nodesWithDeadLetters(redis: RedisClient, keys: Keys): Promise<string[]> {
  const nodes = (await redis.smembers(keys.deadLetterNodes)).sort();
  const [counts, known] = await Promise.all([
    Promise.all(nodes.map((node) => redis.xlen(keys.nodeDeadLetters(node)))),
    Promise.all(nodes.map((node) => redis.exists(keys.nodeMeta(node)))),
  ]);
  // A node that is there may be adding one at this moment.
  const gone = nodes.filter((_, index) => counts[index] === 0 && known[index] === 0);
  if (gone.length > 0) await redis.srem(keys.deadLetterNodes, ...gone);
  return nodes.filter((_, index) => (counts[index] ?? 0) > 0);
}

/** A node's dead letters after an entry (null: from the first on), oldest first. */
export async function listDeadLetters(
  redis: RedisClient,
  keys: Keys,
  node: string,
  after: string | null,
  limit: number,
): Promise<PlacedLetter[]> {
  const from = after === null ? "-" : `(${after}`;
  const rows = await redis.xrange(keys.nodeDeadLetters(node), from, "+", "COUNT", limit);
  return rows.map(([entry, fields]) => ({ node, entry, letter: letterOf(fields) }));
}

export async function readDeadLetter(
  redis: RedisClient,
  keys: Keys,
  node: string,
  entry: string,
): Promise<DeadLetter | null> {
  const [row] = await redis.xrange(keys.nodeDeadLetters(node), entry, entry);
  return row === undefined ? null : letterOf(row[1]);
}

/** @returns false where it is gone already. */
export async function dropDeadLetter(redis: RedisClient, keys: Keys, node: string, entry: string): Promise<boolean> {
  return (await redis.xdel(keys.nodeDeadLetters(node), entry)) === 1;
}

const letterOf = (fields: readonly string[]): DeadLetter =>
  deadLetter.parse(JSON.parse(fields[fields.indexOf("letter") + 1] ?? "null"));
