import * as z from "zod";
import type { DeliveryResource } from "../domain/resources.ts";
import type { RedisClient } from "./client.ts";
import type { Keys } from "./keys.ts";

/** How long a message that was sent with an idempotency key is known again (http.md, "Messages"). */
const KNOWN_MS = 600_000;

const record = z.object({
  bodyHash: z.string(),
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
/** What is known of a message with a key: which body it had, and once it is stored, for whom. */
export type MessageRecord = z.output<typeof record>;

/** Says that this message is about to be sent, unless somebody has said so before. @returns what was said, or null. */
export async function claimMessage(
  redis: RedisClient,
  keys: Keys,
  id: string,
  bodyHash: string,
): Promise<MessageRecord | null> {
  const mine = JSON.stringify({ bodyHash, deliveries: null } satisfies MessageRecord);
  const former = await redis.set(keys.message(id), mine, "PX", KNOWN_MS, "NX", "GET");
  return former === null ? null : record.parse(JSON.parse(former));
}

/** Says that it is stored. Safe to repeat. */
export async function rememberMessage(
  redis: RedisClient,
  keys: Keys,
  id: string,
  bodyHash: string,
  deliveries: readonly DeliveryResource[],
): Promise<void> {
  await redis.set(keys.message(id), JSON.stringify({ bodyHash, deliveries }), "PX", KNOWN_MS);
}
