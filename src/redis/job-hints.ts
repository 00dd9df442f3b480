import type { RedisClient } from "./client.ts";
import { type HintWatch, HintWatchers } from "./hint-watchers.ts";
import type { Keys } from "./keys.ts";

/**
 * Tells when something may have happened to a job. A hint over pub/sub: whoever waits also looks each second.
 *
 * One pattern subscription serves every wait of a process: subscribing for each job cost two more round trips a command,
 * and a hint is a few bytes.
 */
export class JobHints {
  readonly #open: () => RedisClient;
  readonly #keys: Keys;
  readonly #watchers = new HintWatchers();
  #client: RedisClient | null = null;
  #onEvery: ((job: string) => void) | null = null;

  /** @param open opens a connection in the role `subscriber`; called once, at the first wait. */
  constructor(open: () => RedisClient, keys: Keys) {
    this.#open = open;
    this.#keys = keys;
  }

  /** Watches a job until `stop()`. */
  watch(job: string): HintWatch {
    this.#subscribe();
    return this.#watchers.watch(job);
  }

  /** Calls `onHint` for every job of the cluster. */
  watchAll(onHint: (job: string) => void): void {
    this.#onEvery = onHint;
    this.#subscribe();
  }

  close(): void {
    this.#client?.disconnect();
    this.#client = null;
  }

  #subscribe(): void {
    if (this.#client !== null) return;
    this.#client = this.#open();
    this.#client.on("pmessage", (_pattern: string, channel: string, payload: string) => {
      const job = this.#keys.jobOfChannel(channel);
      this.#onEvery?.(job);
      this.#watchers.tell(job, payload);
    });
    this.#client.psubscribe(this.#keys.jobChannelPattern).then(undefined, ignoreLostHint);
  }
}

/** A subscription that fails loses hints and nothing else: its connection reports the error, and waiters look each second. */
function ignoreLostHint(): void {}
