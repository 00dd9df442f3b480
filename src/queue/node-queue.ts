import { Queue, Worker } from "bullmq";
import { type Dispatch, dispatch, dispatchId } from "../domain/job.ts";
import type { RedisClient } from "../redis/connection.ts";
import type { Keys } from "../redis/keys.ts";

/** Each node has one queue, in its own slot: `{node:<id>}:commands`. */
const QUEUE = "commands";
/** BullMQ caps what one entry may hold at nothing; 16 MiB is a task of some thousand stitches. */
const MAX_DISPATCH_BYTES = 16 * 1024 * 1024;
/** Finished entries kept, to be looked at: a used id that is added again does nothing while it is kept, and is refused at the claim after. */
const KEPT = { age: 3600, count: 100 };

/** Adds tasks to the queues of nodes, over one shared connection. */
export class Dispatcher {
  readonly #root: Queue;
  readonly #keys: Keys;

  constructor(redis: RedisClient, keys: Keys) {
    this.#keys = keys;
    this.#root = new Queue(QUEUE, {
      connection: redis,
      skipVersionCheck: true,
      skipMetasUpdate: true,
      prefix: keys.node("none"),
    });
    this.#root.on("error", () => {
      // The shared connection reports its own errors; an add that fails rejects.
    });
  }

  /** One entry per task, all in one pipelined round trip. Safe to repeat: an id that is known does nothing. */
  async dispatch(tasks: readonly Dispatch[]): Promise<void> {
    await Promise.all(
      tasks.map(async (each) => {
        const bytes = JSON.stringify(each).length;
        if (bytes > MAX_DISPATCH_BYTES)
          throw new RangeError(`a task of ${bytes} bytes is more than a queue entry may hold`);
        await this.#queueOf(each.task.node).add(each.task.steps[0]?.action ?? "task", each, {
          jobId: dispatchId(each.job, each.task),
          removeOnComplete: KEPT,
          removeOnFail: KEPT,
        });
      }),
    );
  }

  /** Deletes all of a forgotten node's queue. */
  async obliterate(node: string): Promise<void> {
    await this.#queueOf(node).obliterate({ force: true });
  }

  async close(): Promise<void> {
    await this.#root.close();
  }

  // A queue per node over the one connection: a sibling backend adds no listener and writes nothing, so it costs an object.
  #queueOf(node: string) {
    const backend = this.#root.getBackend();
    return new Queue(QUEUE, { connection: {}, skipMetasUpdate: true, prefix: this.#keys.node(node) }, () =>
      backend.forQueue(QUEUE, this.#keys.node(node)),
    );
  }
}

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
        await run(dispatch.parse(job.data));
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
