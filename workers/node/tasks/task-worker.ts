import type { Dispatch } from "../../../src/domain/job/job.ts";
import { NodeQueueWorker } from "../../../src/queue/node-queue.ts";
import type { RedisClient } from "../../../src/redis/connection/client.ts";
import type { Keys } from "../../../src/redis/keys.ts";
import type { StitchDisk } from "../stitches/stitch-disk.ts";
import { TaskJournal } from "./task-journal.ts";
import { TaskRunner, type TaskRunnerOptions } from "./task-runner.ts";

/** Tasks at once on one node. Steps of different stitches run in parallel; most of the time they wait for processes. */
const CONCURRENCY = 64;

type TaskWorkerOptions = Omit<TaskRunnerOptions, "journal"> & {
  /** In the role `blocking`. */
  readonly blocking: RedisClient;
  readonly keys: Keys;
  readonly node: string;
  readonly disk: StitchDisk;
};

/** Takes the tasks of one node from its queue, and carries them out. */
export class TaskWorker {
  readonly #journal: TaskJournal;
  readonly #runner: TaskRunner;
  readonly #queue: NodeQueueWorker;

  constructor(options: TaskWorkerOptions) {
    const { blocking, keys, node, onError } = options;
    this.#journal = new TaskJournal(options);
    this.#runner = new TaskRunner({ ...options, journal: this.#journal });
    this.#queue = new NodeQueueWorker(blocking, keys, node, CONCURRENCY, (task) => this.#runner.run(task), onError);
  }

  /**
   * @param left tasks that a former life had taken and not answered.
   * @param onBroken told where the queue cannot be read any more.
   */
  async start(left: readonly Dispatch[], onBroken: (error: unknown) => void): Promise<void> {
    // First, so that what BullMQ delivers again meanwhile is known to be under way.
    this.#journal.resume(left, (task) => this.#runner.runAgain(task));
    await this.#queue.start(onBroken);
  }

  /** Takes nothing more and waits at most `graceMs` for what runs; the rest is left to be delivered again. */
  async stop(graceMs: number): Promise<void> {
    await this.#queue.stop(graceMs);
  }

  /** Resolves when no task is under way any more, and the outcomes are written. */
  async idle(): Promise<void> {
    await Promise.all([this.#journal.idle(), this.#runner.idle()]);
  }
}
