import type { RedisClient } from "./client.ts";
import type { Keys } from "./keys.ts";

/** A watch over one job, until `stop()`. */
export type JobWatch = {
  /** Resolves at the first hint since the last call, or after `ms`; with the payloads that came since then. */
  next(ms: number): Promise<readonly string[]>;
  stop(): void;
};

/**
 * Tells when something may have happened to a job. A hint over pub/sub: whoever waits also looks each second.
 *
 * One pattern subscription serves every wait of a process: subscribing for each job cost two more round trips a command,
 * and a hint is a few bytes.
 */
export class JobHints {
  readonly #open: () => RedisClient;
  readonly #keys: Keys;
  readonly #watching = new Map<string, Set<(payload: string) => void>>();
  #client: RedisClient | null = null;
  #onEvery: ((job: string) => void) | null = null;

  /** @param open opens a connection in the role `subscriber`; called once, at the first wait. */
  constructor(open: () => RedisClient, keys: Keys) {
    this.#open = open;
    this.#keys = keys;
  }

  watch(job: string): JobWatch {
    this.#subscribe();
    let payloads: string[] = [];
    let wake: (() => void) | null = null;
    const onHint = (payload: string) => {
      payloads.push(payload);
      wake?.();
    };
    const watchers = this.#watching.get(job) ?? new Set();
    this.#watching.set(job, watchers.add(onHint));
    return {
      next: (ms) =>
        new Promise((resolve) => {
          const timer = setTimeout(done, ms);
          function done() {
            clearTimeout(timer);
            wake = null;
            const seen = payloads;
            payloads = [];
            resolve(seen);
          }
          wake = done;
          if (payloads.length > 0) done();
        }),
      stop: () => {
        if (watchers.delete(onHint) && watchers.size === 0) this.#watching.delete(job);
      },
    };
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
      for (const onHint of this.#watching.get(job) ?? []) onHint(payload);
    });
    this.#client.psubscribe(this.#keys.jobChannelPattern).then(undefined, ignoreLostHint);
  }
}

/** A subscription that fails loses hints and nothing else: its connection reports the error, and waiters look each second. */
function ignoreLostHint(): void {}
