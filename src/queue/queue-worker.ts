import { UnrecoverableError, Worker } from "bullmq";
import type * as z from "zod";
import { LATE, orLate } from "../bounded-wait.ts";
import type { RedisClient } from "../redis/connection/client.ts";
import { QUEUE } from "../redis/keys.ts";
import { KEPT } from "./dispatcher.ts";

/** How entries are taken. BullMQ redelivers those of a dead worker within about 7 s (lock 5 s, stalled check each 2 s). */
const WORKER = {
  lockDuration: 5000,
  stalledInterval: 2000,
  // Redelivery never fails an entry: what it asks for decides whether it may still be done, not BullMQ's count.
  maxStalledCount: 1_000_000,
  drainDelay: 5,
  removeOnComplete: KEPT,
  removeOnFail: KEPT,
} as const;

export type QueueWorkerOptions<T> = {
  /** A connection in the role `blocking`. BullMQ duplicates it; its owner closes it. */
  readonly redis: RedisClient;
  /** Prefix of the queue's keys. */
  readonly prefix: string;
  readonly concurrency: number;
  readonly schema: z.ZodType<T>;
  /** Does what an entry asks for. If it rejects, the entry is delivered again. */
  readonly run: (entry: T) => Promise<void>;
  readonly onError: (error: Error) => void;
};

/** How long BullMQ may take to close when no entry runs any more. While its connection is broken, it would wait without end. */
const CLOSE_MS = 1000;

/** Takes entries from a queue until stopped. */
export class QueueWorker<T> {
  readonly #worker: Worker;
  #running = 0;
  #onIdle = (): void => undefined;

  constructor({ redis, prefix, concurrency, schema, run, onError }: QueueWorkerOptions<T>) {
    this.#worker = new Worker(
      QUEUE,
      async (job) => {
        const entry = schema.safeParse(job.data);
        // This entry will never be readable; whoever waits for it sees the time run out.
        if (!entry.success) throw new UnrecoverableError(`not readable: ${entry.error.message}`);
        this.#running += 1;
        try {
          await run(entry.data);
        } finally {
          this.#running -= 1;
          if (this.#running === 0) this.#onIdle();
        }
      },
      { ...WORKER, connection: redis, prefix, concurrency, autorun: false, skipVersionCheck: true },
    );
    this.#worker.on("error", onError);
    this.#worker.on("failed", (_job, error) => onError(error));
  }

  /** Resolves when the worker's connections are ready; from then on it takes entries. */
  async start(onEnd: (error: unknown) => void): Promise<void> {
    await this.#worker.waitUntilReady();
    this.#worker.run().then(undefined, onEnd);
  }

  /** Takes no more entries and waits at most `graceMs` for those that run; the rest are delivered again. */
  async stop(graceMs: number): Promise<void> {
    const untilMs = performance.now() + graceMs;
    const closed = this.#worker.close();
    const idle = new Promise<void>((resolve) => {
      this.#onIdle = resolve;
    });
    // An entry that BullMQ has just fetched begins to run only now.
    let isClosed = (await orLate(closed, CLOSE_MS)) !== LATE;
    if (!isClosed && this.#running > 0) {
      await Promise.race([closed, orLate(idle, untilMs - performance.now())]);
      isClosed = (await orLate(closed, CLOSE_MS)) !== LATE;
    }
    if (!isClosed) {
      closed.then(undefined, () => {
        // The close was too slow: the connections are cut below, and the error of the close would only report that.
      });
      await orLate(this.#worker.disconnect(), 500);
    }
  }
}
