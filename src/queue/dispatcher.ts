import { Queue } from "bullmq";
import { type Dispatch, dispatchId, type Task } from "../domain/job/job.ts";
import type { RedisClient } from "../redis/connection/client.ts";
import { type Keys, QUEUE } from "../redis/keys.ts";
import { QUEUE_LAYOUT } from "../redis/layout.ts";

/** Finished entries kept, to be looked at: a used id that is added again does nothing while it is kept, and is refused at the claim after. */
export const KEPT = { age: 3600, count: 100 };

/** A task that could not be carried out because Redis failed is delivered again until it can be: the claim ends it, not a count. */
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

  /** Resolves when BullMQ has made its scripts known to the connection: before that, nothing may be sent (see `installScripts`). */
  async ready(): Promise<void> {
    await this.#root.waitUntilReady();
  }

  /** One entry per task, all in one pipelined round trip. Safe to repeat: an id that is known does nothing. */
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

  /** Takes out of its node's queue what nobody has taken up, and nobody may any more. Safe to repeat. */
  async withdraw(job: string, tasks: readonly Task[]): Promise<void> {
    await Promise.all(tasks.map((task) => this.#queueOf(task.node).remove(dispatchId(job, task))));
  }

  /** Deletes all of a forgotten node's queue. BullMQ pauses it first: cut off in between, it stays so until `resume`. */
  async obliterate(node: string): Promise<void> {
    try {
      await this.#queueOf(node).obliterate({ force: true });
    } catch (error) {
      // BullMQ's scripts give up where one of its keys is of another type.
      if ((await this.#dropOtherTypes(node)) === 0) throw error;
      await this.#queueOf(node).obliterate({ force: true });
    }
  }

  /** @returns how many keys of the queue were of another type than BullMQ gives them. */
  async #dropOtherTypes(node: string): Promise<number> {
    const keyOf = (part: string) => this.#keys.nodeQueue(node, part);
    const rows = Object.entries(QUEUE_LAYOUT);
    const dropped = await Promise.all(rows.map(([part, { types }]) => this.#dropOther(keyOf(part), types)));
    // By now each that is there can be read.
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

  /** Lets a queue go on that is paused. Safe to repeat. */
  async resume(node: string): Promise<void> {
    await this.#queueOf(node).resume();
  }

  // A queue per node over the one connection: a sibling backend adds no listener and writes nothing, so it costs an object.
  #queueOf(node: string) {
    const backend = this.#root.getBackend();
    return new Queue(QUEUE, { connection: {}, skipMetasUpdate: true, prefix: this.#keys.node(node) }, () =>
      backend.forQueue(QUEUE, this.#keys.node(node)),
    );
  }
}
