import { Queue } from "bullmq";
import type { RedisClient } from "../redis/connection/client.ts";
import { type Keys, QUEUE } from "../redis/keys.ts";

/**
 * Prepares a node's queue for use: caps BullMQ's own event stream (nothing here reads it, and by default it grows to 10,000
 * entries), and resumes the queue if a Master that was forgetting the node has left it paused. Safe to repeat.
 * @param redis in the role `direct`: BullMQ defines its scripts on it.
 */
export async function openNodeQueue(redis: RedisClient, keys: Keys, node: string): Promise<void> {
  const prefix = keys.node(node);
  const meta = keys.nodeQueue(node, "meta");
  const [paused] = await Promise.all([redis.hget(meta, "paused"), redis.hset(meta, "opts.maxLenEvents", 100)]);
  if (paused === null) return;
  const queue = new Queue(QUEUE, { connection: redis, prefix, skipVersionCheck: true, skipMetasUpdate: true });
  queue.on("error", () => {
    // The connection reports its own errors; a call that fails rejects below.
  });
  await queue.resume();
}
