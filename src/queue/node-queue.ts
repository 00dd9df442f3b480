import { Queue, UnrecoverableError, Worker } from "bullmq";
import { LATE, orLate } from "../bounded-wait.ts";
import { type Dispatch, dispatch } from "../domain/job/job.ts";
import type { RedisClient } from "../redis/connection/client.ts";
import { type Keys, QUEUE } from "../redis/keys.ts";
import { KEPT } from "./dispatcher.ts";

/** How a node takes its tasks. BullMQ redelivers a dead worker's tasks within about 7 s (lock 5 s, stalled check each 2 s). */
const WORKER = {
  lockDuration: 5000,
  stalledInterval: 2000,
  // Redelivery never fails a task: the claim decides whether the task may still run, not BullMQ's count.
  maxStalledCount: 1_000_000,
  drainDelay: 5,
  removeOnComplete: KEPT,
  removeOnFail: KEPT,
} as const;

/** Takes a node's tasks from its queue until stopped. */
export class NodeQueueWorker {
  readonly #worker: Worker;

  /**
   * @param redis a connection in the role `blocking`. BullMQ duplicates it; its owner closes it.
   * @param run carries out a task. If it rejects, the task is delivered again.
   */
  constructor(
    redis: RedisClient,
    keys: Keys,
    node: string,
    concurrency: number,
    run: (task: Dispatch) => Promise<void>,
    onError: (error: Error) => void,
  ) {
    this.#worker = new Worker(
      QUEUE,
      async (job) => {
        const task = dispatch.safeParse(job.data);
        // This entry will never be readable; readers of the job see the task expire.
        if (!task.success) throw new UnrecoverableError(`not a task: ${task.error.message}`);
        await run(task.data);
      },
      { ...WORKER, connection: redis, prefix: keys.node(node), concurrency, autorun: false, skipVersionCheck: true },
    );
    this.#worker.on("error", onError);
    this.#worker.on("failed", (_job, error) => onError(error));
  }

  /** Resolves when the worker's connections are ready; from then on it takes tasks. */
  async start(onEnd: (error: unknown) => void): Promise<void> {
    await this.#worker.waitUntilReady();
    this.#worker.run().then(undefined, onEnd);
  }

  /** Takes no more tasks and waits at most `graceMs` for those that run; the rest are delivered again. */
  async stop(graceMs: number): Promise<void> {
    const closed = this.#worker.close();
    if ((await orLate(closed, graceMs)) === LATE) {
      closed.then(undefined, () => {
        // The close was too slow: the connections are cut below, and the error of the close would only report that.
      });
      await orLate(this.#worker.disconnect(), 500);
    }
  }
}

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
