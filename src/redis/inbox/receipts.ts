import { type Message, type Receipt, receipt } from "../../domain/message.ts";
import type { RedisClient } from "../connection/client.ts";
import type { Keys } from "../keys.ts";
import { defineScript } from "../connection/script.ts";

/** Longer than anybody waits for receipts. */
const KEPT_MS = 90_000;

/**
 * Appends receipts to a reply. KEYS reply. ARGV ms to keep it, channel, id of the reply, receipts. The hint is published
 * after the receipts are there.
 */
const give = defineScript<[reply: string]>(
  "give_receipts",
  1,
  `
only(KEYS[1], 'list')
for i = 4, #ARGV do redis.call('RPUSH', KEYS[1], ARGV[i]) end
redis.call('PEXPIRE', KEYS[1], ARGV[1])
return redis.call('PUBLISH', ARGV[2], ARGV[3])
`,
);

/** Gives the receipts of deliveries to the processes that wait for them. One round trip. */
export async function giveReceipts(
  redis: RedisClient,
  keys: Keys,
  given: readonly { readonly message: Message; readonly receipt: Receipt }[],
): Promise<void> {
  const byReply = Map.groupBy(given, ({ message }) => message.receipt?.reply ?? "");
  await Promise.all(
    [...byReply].map(async ([reply, rows]) => {
      const asker = rows[0]?.message.receipt?.asker;
      if (asker === undefined) return;
      const lines = rows.map((row) => JSON.stringify(row.receipt));
      await give.call(redis, [keys.reply(reply)], [KEPT_MS, keys.replyChannel(asker), reply, ...lines]);
    }),
  );
}

/** The receipts that have come, without the first `seen`. They are not deleted: several processes may wait for them. */
export async function readReceipts(redis: RedisClient, keys: Keys, reply: string, seen: number): Promise<Receipt[]> {
  const texts = await redis.lrange(keys.reply(reply), seen, -1);
  return texts.map((text) => receipt.parse(JSON.parse(text)));
}

/** Deletes receipts that nobody waits for any more. */
export async function dropReceipts(redis: RedisClient, keys: Keys, reply: string): Promise<void> {
  await redis.del(keys.reply(reply));
}
