import type { RedisClient } from "./connection.ts";
import type { Keys } from "./keys.ts";

/** Tells when something may have happened to a job. A hint over pub/sub: whoever waits also looks each second. */
export class JobHints {
  readonly #open: () => RedisClient;
  readonly #keys: Keys;
  readonly #waiting = new Map<string, Set<() => void>>();
  #client: RedisClient | null = null;

  /** @param open opens a connection in the role `subscriber`; called once, at the first wait. */
  constructor(open: () => RedisClient, keys: Keys) {
    this.#open = open;
    this.#keys = keys;
  }

  /** Watches a job until `stop()`. `next(ms)` resolves at the first hint since the last call, or after `ms`. */
  watch(job: string): { next(ms: number): Promise<void>; stop(): void } {
    let hinted = false;
    let wake: (() => void) | null = null;
    const onHint = () => {
      hinted = true;
      wake?.();
    };
    const channel = this.#keys.jobChannel(job);
    const watchers = this.#waiting.get(channel) ?? new Set();
    if (watchers.size === 0) {
      this.#waiting.set(channel, watchers);
      this.#subscriber().subscribe(channel).then(undefined, ignoreLostHint);
    }
    watchers.add(onHint);
    return {
      next: (ms) =>
        new Promise((resolve) => {
          const timer = setTimeout(done, ms);
          function done() {
            clearTimeout(timer);
            wake = null;
            hinted = false;
            resolve();
          }
          wake = done;
          if (hinted) done();
        }),
      stop: () => {
        if (!watchers.delete(onHint) || watchers.size > 0) return;
        this.#waiting.delete(channel);
        this.#client?.unsubscribe(channel).then(undefined, ignoreLostHint);
      },
    };
  }

  /** Calls `onHint` for every job of the cluster. */
  async watchAll(onHint: (job: string) => void): Promise<void> {
    const client = this.#subscriber();
    client.on("pmessage", (_pattern: string, channel: string) => onHint(this.#keys.jobOfChannel(channel)));
    await client.psubscribe(this.#keys.jobChannelPattern);
  }

  close(): void {
    this.#client?.disconnect();
    this.#client = null;
  }

  #subscriber(): RedisClient {
    if (this.#client === null) {
      this.#client = this.#open();
      this.#client.on("message", (channel: string) => {
        for (const onHint of this.#waiting.get(channel) ?? []) onHint();
      });
    }
    return this.#client;
  }
}

/** A subscription that fails loses a hint and nothing else: its connection reports the error, and waiters look each second. */
function ignoreLostHint(): void {}
