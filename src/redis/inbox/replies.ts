import * as z from "zod";
import type { RedisClient } from "../connection/client.ts";
import type { Question } from "./inbox.ts";
import type { Keys } from "../keys.ts";
import { defineScript } from "../connection/script.ts";

/** Longer than anybody waits. Short, because a minute of answers that nobody fetched must not fill the memory. */
const ANSWER_TTL_MS = 10_000;

/** A node's answer to a question. `code` is one of the catalogue of request errors. */
export const answer = z.discriminatedUnion("ok", [
  z.object({ ok: z.literal(true), value: z.unknown() }),
  z.object({ ok: z.literal(false), code: z.string(), detail: z.string() }),
]);
export type Answer = z.output<typeof answer>;

/**
 * Stores an answer. KEYS reply. ARGV answer, ms to keep it, channel, id of the reply. The hint is published after the
 * answer is there.
 */
const give = defineScript<[reply: string]>(
  "give_answer",
  1,
  `
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return redis.call('PUBLISH', ARGV[3], ARGV[4])
`,
);

/** Answers a question. Safe to repeat. */
export async function giveAnswer(redis: RedisClient, keys: Keys, asked: Question, given: Answer): Promise<void> {
  await give.call(
    redis,
    [keys.reply(asked.reply)],
    [JSON.stringify(given), ANSWER_TTL_MS, keys.replyChannel(asked.asker), asked.reply],
  );
}

/** Reads and deletes the answer; null while there is none. */
export async function takeAnswer(redis: RedisClient, keys: Keys, reply: string): Promise<Answer | null> {
  const text = await redis.getdel(keys.reply(reply));
  return text === null ? null : answer.parse(JSON.parse(text));
}
