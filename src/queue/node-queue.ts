import { UnrecoverableError, Worker } from "bullmq";
import { type Dispatch, dispatch } from "../domain/job.ts";
import type { RedisClient } from "../redis/client.ts";
import type { Keys } from "../redis/keys.ts";
import { KEPT, QUEUE } from "./dispatcher.ts";

/** How a node takes its tasks: BullMQ redelivers what a dead worker held within about 6 s (2 × lock, stalled check each 2 s). */
const WORKER = {
  lockDuration: 5000,
  stalledInterval: 2000,
  // Redelivery never fails a task: the claim decides whether it may still run, not a count of BullMQ's.
  maxStalledCount: 1_000_000,
  drainDelay: 5,
  removeOnComplete: KEPT,
  removeOnFail: KEPT,
} as const;

/** Takes a node's tasks from its queue until stopped. */
export class NodeQueueWorker {
  readonly #worker: Worker;

  /**
   * @param redis a connection in the role `blocking`; duplicated, and left open for its owner to close.
   * @param run carries a task out; a rejection hands it back to be delivered again.
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
        // It will never be readable; whoever reads the job sees it expire.
        if (!task.success) throw new UnrecoverableError(`not a task: ${task.error.message}`);
        await run(task.data);
      },
      { ...WORKER, connection: redis, prefix: keys.node(node), concurrency, autorun: false, skipVersionCheck: true },
    );
    this.#worker.on("error", onError);
    this.#worker.on("failed", (_job, error) => onError(error));
  }

  /** Resolves when its connections are ready; then it takes tasks. */
  async start(onEnd: (error: unknown) => void): Promise<void> {
    await this.#worker.waitUntilReady();
    this.#worker.run().then(undefined, onEnd);
  }

  /** Takes nothing more and waits at most `graceMs` for what runs; the rest is left to be delivered again. */
  async stop(graceMs: number): Promise<void> {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<"late">((resolve) => {
      timer = setTimeout(() => resolve("late"), graceMs);
    });
    const closed = this.#worker.close();
    if ((await Promise.race([closed, late])) === "late") {
      closed.then(undefined, () => {
        // A close that was overtaken: the connections are cut below, which is what it would report.
      });
      await Promise.race([this.#worker.disconnect(), new Promise((resolve) => setTimeout(resolve, 500))]);
    }
    clearTimeout(timer);
  }
}

/** Caps BullMQ's own event stream of a node's queue: nothing here reads it, and by default it grows to 10,000 entries. */
export async function initNodeQueue(redis: RedisClient, keys: Keys, node: string): Promise<void> {
  await redis.hset(`${keys.node(node)}:${QUEUE}:meta`, "opts.maxLenEvents", 100);
}
