import * as z from "zod";
import { type Message, type Receipt, receipt } from "../domain/message.ts";
import type { RedisClient } from "./client.ts";
import type { Keys } from "./keys.ts";
import { defineScript } from "./script.ts";

/** Longer than anybody waits for receipts. */
const KEPT_MS = 90_000;

/** KEYS reply. ARGV ms to keep it, channel, id of the reply, receipts. The channel is told after they are there. */
const give = defineScript<[reply: string]>(
  "give_receipts",
  1,
  `
for i = 4, #ARGV do redis.call('RPUSH', KEYS[1], ARGV[i]) end
redis.call('PEXPIRE', KEYS[1], ARGV[1])
return redis.call('PUBLISH', ARGV[2], ARGV[3])
`,
);

/** KEYS reply. Returns the receipts that came, and forgets them. Atomic: one that comes meanwhile is not lost. */
const take = defineScript<[reply: string]>(
  "take_receipts",
  1,
  `
local all = redis.call('LRANGE', KEYS[1], 0, -1)
redis.call('DEL', KEYS[1])
return all
`,
);

const texts = z.array(z.string());

/** Tells whoever waits for them what became of deliveries. One round trip. */
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

/** The receipts that have come since the last call. */
export async function takeReceipts(redis: RedisClient, keys: Keys, reply: string): Promise<Receipt[]> {
  return texts.parse(await take.call(redis, [keys.reply(reply)], [])).map((text) => receipt.parse(JSON.parse(text)));
}
