import * as z from "zod";
import type { RedisClient } from "./client.ts";
import type { Keys } from "./keys.ts";
import { defineScript } from "./script.ts";

/** Entries that an inbox takes; some MB of questions. */
export const MAX_ENTRIES = 10_000;
/** One group, and in it one consumer for every life of the node: what one life did not acknowledge, the next finds. */
const GROUP = "node";
const CONSUMER = "node";

/** What a node is asked, as JSON. `reply` names the answer, `asker` the process that waits for it, until `untilMs` by Redis's clock. */
export const question = z.object({
  name: z.string(),
  args: z.record(z.string(), z.unknown()),
  reply: z.string(),
  asker: z.string(),
  untilMs: z.number(),
});
export type Question = z.output<typeof question>;

/** `kind` says what `body` is: "question" or, to come, "message". */
export type InboxEntry = { readonly id: string; readonly kind: string; readonly body: string };

/**
 * Puts an entry into a node's inbox. KEYS inbox. ARGV bound, kind, body. Returns its id, or false where the inbox is full.
 * Atomic: senders at once must not fill it beyond its bound.
 */
const put = defineScript<[inbox: string]>(
  "put_in_inbox",
  1,
  `
if redis.call('XLEN', KEYS[1]) >= tonumber(ARGV[1]) then return false end
return redis.call('XADD', KEYS[1], '*', 'kind', ARGV[2], 'body', ARGV[3])
`,
);

/** The node is done with entries. KEYS inbox. ARGV ids. Atomic: an entry is never acknowledged and left there for good. */
const acknowledge = defineScript<[inbox: string]>(
  "acknowledge_inbox",
  1,
  `
redis.call('XACK', KEYS[1], '${GROUP}', unpack(ARGV))
return redis.call('XDEL', KEYS[1], unpack(ARGV))
`,
);

/** Asks a node. @returns false where its inbox is full. */
export async function putQuestion(redis: RedisClient, keys: Keys, node: string, asked: Question): Promise<boolean> {
  return (await put.call(redis, [keys.nodeInbox(node)], [MAX_ENTRIES, "question", JSON.stringify(asked)])) !== null;
}

/** Makes the inbox and its group where they are not there. Safe to repeat. */
export async function createInbox(redis: RedisClient, keys: Keys, node: string): Promise<void> {
  try {
    await redis.xgroup("CREATE", keys.nodeInbox(node), GROUP, "0", "MKSTREAM");
  } catch (error) {
    if (!(error instanceof Error && error.message.startsWith("BUSYGROUP"))) throw error;
  }
}

/** Is this error an inbox that is gone with its group: a Redis that came back empty, or a node that was forgotten? */
export const isInboxGone = (error: unknown): boolean => error instanceof Error && error.message.startsWith("NOGROUP");

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

function entriesOf(reply: unknown): InboxEntry[] {
  const [stream] = streams.parse(reply) ?? [];
  return (stream?.[1] ?? []).map(([id, fields]) => {
    const field = (name: string) => fields?.[fields.indexOf(name) + 1] ?? "";
    return { id, kind: fields === null ? "gone" : field("kind"), body: field("body") };
  });
}

/** Takes entries out of the inbox. Safe to repeat. */
export async function acknowledgeEntries(redis: RedisClient, keys: Keys, node: string, ids: readonly string[]) {
  await acknowledge.call(redis, [keys.nodeInbox(node)], ids);
}
