import { type Dispatch, dispatch } from "../../../src/domain/job/job.ts";
import { QueueWorker } from "../../../src/queue/queue-worker.ts";
import type { RedisClient } from "../../../src/redis/connection/client.ts";
import type { Keys } from "../../../src/redis/keys.ts";
import type { StitchDisk } from "../stitches/stitch-disk.ts";
import { TaskJournal } from "./task-journal.ts";
import { TaskRunner, type TaskRunnerOptions } from "./task-runner.ts";

/** Tasks at once on one node. Steps of different stitches run in parallel; most of the time they wait for processes. */
const CONCURRENCY = 64;

type TaskWorkerOptions = Omit<TaskRunnerOptions, "journal"> & {
  /** A connection in the role `blocking`. */
  readonly blocking: RedisClient;
  readonly keys: Keys;
  readonly node: string;
  readonly disk: StitchDisk;
};

/** Takes the tasks of one node from its queue, and carries them out. */
export class TaskWorker {
  readonly #journal: TaskJournal;
  readonly #runner: TaskRunner;
  readonly #queue: QueueWorker<Dispatch>;

  constructor(options: TaskWorkerOptions) {
    const { blocking, keys, node, onError } = options;
    this.#journal = new TaskJournal(options);
    this.#runner = new TaskRunner({ ...options, journal: this.#journal });
    this.#queue = new QueueWorker({
      redis: blocking,
      prefix: keys.node(node),
      concurrency: CONCURRENCY,
      schema: dispatch,
      run: (task) => this.#runner.run(task),
      onError,
    });
  }

  /**
   * @param left tasks that an earlier run of the worker took and did not answer.
   * @param onBroken called when the queue cannot be read any more.
   */
  async start(left: readonly Dispatch[], onBroken: (error: unknown) => void): Promise<void> {
    // First, so that tasks that BullMQ delivers again meanwhile are known to be in progress.
    this.#journal.resume(left, (task) => this.#runner.runAgain(task));
    await this.#queue.start(onBroken);
  }

  /** Takes no more tasks and waits at most `graceMs` for the running ones. The rest is delivered again later. */
  async stop(graceMs: number): Promise<void> {
    await this.#queue.stop(graceMs);
  }

  /** Resolves when no task is in progress any more and the outcomes are written. */
  async idle(): Promise<void> {
    await Promise.all([this.#journal.idle(), this.#runner.idle()]);
  }
}
