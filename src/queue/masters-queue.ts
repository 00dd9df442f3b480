import { Queue } from "bullmq";
import type { RedisClient } from "../redis/connection/client.ts";
import { type Keys, QUEUE } from "../redis/keys.ts";

/** A request that could not be handled, because of Redis or of a leader that is none any more, is delivered again until it is void. */
const AGAIN = { attempts: 1_000_000, backoff: { type: "fixed", delay: 200 } };

/** The queue that carries requests to the leader, over a shared connection. It may lose an entry, or deliver it twice. */
export class MastersQueue {
  readonly #queue: Queue;
  readonly #redis: RedisClient;
  readonly #keys: Keys;

  constructor(redis: RedisClient, keys: Keys) {
    this.#redis = redis;
    this.#keys = keys;
    this.#queue = new Queue(QUEUE, {
      connection: redis,
      skipVersionCheck: true,
      skipMetasUpdate: true,
      prefix: keys.mastersShare,
    });
    this.#queue.on("error", () => {
      // The shared connection reports its own errors; an add that fails rejects.
    });
  }

  /** Resolves when BullMQ has defined its scripts on the connection. Bounds BullMQ's own events, which nobody reads. */
  async ready(): Promise<void> {
    await this.#queue.waitUntilReady();
    await this.#redis.hset(this.#keys.mastersQueue("meta"), "opts.maxLenEvents", 100);
  }

  /** Adds an entry. Repeating it under the same id does nothing. */
  async add(id: string, name: string, entry: object): Promise<void> {
    await this.#queue.add(name, entry, { jobId: id, ...AGAIN, removeOnComplete: true, removeOnFail: true });
  }

  /** Removes an entry that nobody has taken. Safe to repeat. */
  async remove(id: string): Promise<void> {
    await this.#queue.remove(id);
  }
}
