import * as z from "zod";
import type { RedisClient } from "../connection/client.ts";
import { MESSAGE_KEPT_MS } from "./put-messages.ts";
import type { Keys } from "../keys.ts";

const record = z.object({
  bodyHash: z.string(),
  /**
   * Where the message goes: one entry in the inbox of each node, and the full ids that the entry is for. Decided before it
   * is sent.
   */
  posts: z.array(
    z.object({
      node: z.string(),
      to: z.union([z.object({ stitch: z.string() }), z.object({ stitches: z.array(z.string()) })]),
      stitches: z.array(z.string()),
    }),
  ),
  /** What became of the message so far; null until it is known to be stored. */
  deliveries: z
    .array(
      z.object({
        stitch: z.string(),
        status: z.enum(["accepted", "acked", "failed", "replied", "timeout", "rejected"]),
        code: z.string().optional(),
        data: z.string().optional(),
      }),
    )
    .nullable(),
});
/** A message that was sent with an idempotency key, as it is remembered for ten minutes. */
export type MessageRecord = z.output<typeof record>;
export type Post = MessageRecord["posts"][number];

const recordOf = (text: string | null): MessageRecord | null => (text === null ? null : record.parse(JSON.parse(text)));

export async function readMessageRecord(redis: RedisClient, keys: Keys, id: string): Promise<MessageRecord | null> {
  return recordOf(await redis.get(keys.message(id)));
}

/**
 * Records that this message is about to be sent, unless somebody has recorded it before. @returns the earlier record, or null.
 */
export async function claimMessage(
  redis: RedisClient,
  keys: Keys,
  id: string,
  mine: MessageRecord,
): Promise<MessageRecord | null> {
  return recordOf(await redis.set(keys.message(id), JSON.stringify(mine), "PX", MESSAGE_KEPT_MS, "NX", "GET"));
}

/** Records what has become of the message. Safe to repeat. */
export async function rememberMessage(redis: RedisClient, keys: Keys, id: string, now: MessageRecord): Promise<void> {
  await redis.set(keys.message(id), JSON.stringify(now), "PX", MESSAGE_KEPT_MS);
}

/** Deletes the record of a message that was not accepted: its idempotency key is free again. */
export async function forgetMessage(redis: RedisClient, keys: Keys, id: string): Promise<void> {
  await redis.del(keys.message(id));
}
