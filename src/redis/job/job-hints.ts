import type { RedisClient } from "../connection/client.ts";
import { type HintWatch, HintWatchers } from "../hint-watchers.ts";
import type { Keys } from "../keys.ts";

/**
 * Gives a hint when something may have happened to a job, over pub/sub. A waiter also looks each second, without a hint.
 *
 * A job's channel is subscribed to only while somebody waits for the job, so the hints that a process receives do not grow
 * with the work of the cluster. The subscriptions have a connection of their own, and nothing waits for that connection.
 */
export class JobHints {
  readonly #open: () => RedisClient;
  readonly #keys: Keys;
  readonly #watchers = new HintWatchers();
  #client: RedisClient | null = null;

  /** @param open opens a connection in the role `subscriber`; called once, at the first wait. */
  constructor(open: () => RedisClient, keys: Keys) {
    this.#open = open;
    this.#keys = keys;
  }

  /** Watches a job until `stop()`. */
  watch(job: string): HintWatch {
    const channel = this.#keys.jobChannel(job);
    const client = this.#connected();
    const isFirst = !this.#watchers.has(channel);
    const watch = this.#watchers.watch(channel);
    if (isFirst)
      client.subscribe(channel).then(
        // Hints that came before the subscription are lost, so each waiter looks now.
        () => this.#watchers.tell(channel),
        ignoreLostHint,
      );
    return {
      ...watch,
      stop: () => {
        watch.stop();
        if (!this.#watchers.has(channel)) client.unsubscribe(channel).then(undefined, ignoreLostHint);
      },
    };
  }

  close(): void {
    this.#client?.disconnect();
    this.#client = null;
  }

  #connected(): RedisClient {
    if (this.#client !== null) return this.#client;
    this.#client = this.#open();
    this.#client.on("message", (channel: string, payload: string) => this.#watchers.tell(channel, payload));
    return this.#client;
  }
}

/** A subscription that fails loses hints and nothing else: its connection reports the error, and waiters look each second. */
function ignoreLostHint(): void {}
