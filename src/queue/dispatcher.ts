import { Queue } from "bullmq";
import { type Dispatch, dispatchId, type Task } from "../domain/job/job.ts";
import type { RedisClient } from "../redis/connection/client.ts";
import { type Keys, QUEUE } from "../redis/keys.ts";
import { QUEUE_LAYOUT } from "../redis/queue-layout.ts";

/**
 * Finished entries that are kept for inspection. Adding a used id again does nothing while its entry is kept; after that,
 * the claim refuses the task.
 */
export const KEPT = { age: 3600, count: 100 };

/** A task that failed because of Redis is delivered again until it can run: the claim ends this, not a count. */
const AGAIN = { attempts: 1_000_000, backoff: { type: "fixed", delay: 500 } };

/** Adds tasks to the queues of nodes, over one shared connection. */
export class Dispatcher {
  readonly #root: Queue;
  readonly #redis: RedisClient;
  readonly #keys: Keys;

  constructor(redis: RedisClient, keys: Keys) {
    this.#redis = redis;
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

  /** Resolves when BullMQ has defined its scripts on the connection. Send nothing before that (see `installScripts`). */
  async ready(): Promise<void> {
    await this.#root.waitUntilReady();
  }

  /** Adds one entry per task, all in one pipelined round trip. Safe to repeat: adding a known id does nothing. */
  async dispatch(tasks: readonly Dispatch[]): Promise<void> {
    await Promise.all(
      tasks.map(async (each) => {
        await this.#queueOf(each.task.node).add(each.task.steps[0]?.action ?? "task", each, {
          jobId: dispatchId(each.job, each.task),
          ...AGAIN,
          removeOnComplete: KEPT,
          removeOnFail: KEPT,
        });
      }),
    );
  }

  /** Removes tasks that no node has claimed, and that no node may claim any more, from their nodes' queues. Safe to repeat. */
  async withdraw(job: string, tasks: readonly Task[]): Promise<void> {
    await Promise.all(tasks.map((task) => this.#queueOf(task.node).remove(dispatchId(job, task))));
  }

  /**
   * Deletes the whole queue of a forgotten node. BullMQ pauses the queue first: if the call is cut off in between, the
   * queue stays paused until `resume`.
   */
  async obliterate(node: string): Promise<void> {
    try {
      await this.#queueOf(node).obliterate({ force: true });
    } catch (error) {
      // BullMQ's scripts fail if one of its keys is of another type.
      if ((await this.#dropOtherTypes(node)) === 0) throw error;
      await this.#queueOf(node).obliterate({ force: true });
    }
  }

  /** Deletes the queue's keys that are of another type than BullMQ gives them. @returns how many were deleted. */
  async #dropOtherTypes(node: string): Promise<number> {
    const keyOf = (part: string) => this.#keys.nodeQueue(node, part);
    const rows = Object.entries(QUEUE_LAYOUT);
    const dropped = await Promise.all(rows.map(([part, { types }]) => this.#dropOther(keyOf(part), types)));
    // All keys that still exist can be read now.
    const ids = await Promise.all(
      rows.map(async ([part, row]) => {
        const [type] = row.types;
        if (type === "list") return this.#redis.lrange(keyOf(part), 0, -1);
        return type === "zset" ? this.#redis.zrange(keyOf(part), 0, "-1") : [];
      }),
    );
    const entries = ids
      .flat()
      .flatMap((id) => [
        this.#dropOther(keyOf(id), QUEUE_LAYOUT["<task>"]?.types ?? []),
        this.#dropOther(keyOf(`${id}:lock`), QUEUE_LAYOUT["<task>:lock"]?.types ?? []),
      ]);
    return [...dropped, ...(await Promise.all(entries))].filter((isDropped) => isDropped).length;
  }

  async #dropOther(key: string, types: readonly string[]): Promise<boolean> {
    const type = await this.#redis.type(key);
    if (type === "none" || types.includes(type)) return false;
    await this.#redis.del(key);
    return true;
  }

  /** Resumes a queue that is paused. Safe to repeat. */
  async resume(node: string): Promise<void> {
    await this.#queueOf(node).resume();
  }

  // One queue per node, over the shared connection. A sibling backend adds no listener and writes nothing: it costs an object.
  #queueOf(node: string) {
    const backend = this.#root.getBackend();
    return new Queue(QUEUE, { connection: {}, skipMetasUpdate: true, prefix: this.#keys.node(node) }, () =>
      backend.forQueue(QUEUE, this.#keys.node(node)),
    );
  }
}
