import { orLate, pause } from "../../../src/bounded-wait.ts";
import type { DeadLetter, Message, Receipt } from "../../../src/domain/message.ts";
import type { Routes } from "../../../src/master/ports.ts";
import type { RedisClient } from "../../../src/redis/connection/client.ts";
import { acknowledgeEntries, type InboxEntry } from "../../../src/redis/inbox/inbox.ts";
import { giveReceipts } from "../../../src/redis/inbox/receipts.ts";
import type { Keys } from "../../../src/redis/keys.ts";

/** Delay before a failed write is tried again. */
const RETRY_MS = 500;
/** A finished entry waits this long for others, to leave the inbox together with them; this many entries wait no longer. */
const GATHER_MS = 5;
const MOST_GATHERED = 100;

export type DeliveryResultsOptions = {
  readonly redis: RedisClient;
  readonly keys: Keys;
  readonly routing: Pick<Routes, "bury">;
  readonly node: string;
  /** The incarnation of this worker's last registration. */
  readonly incarnation: () => number;
  readonly holdsId: () => boolean;
  readonly onError: (error: unknown) => void;
};

/**
 * Writes the results of deliveries: dead letters, receipts, and the removal of finished entries from the inbox. A failed
 * write is tried again until `kill`. Then the entries stay in the inbox for the next run of the worker.
 */
export class DeliveryResults {
  readonly #options: DeliveryResultsOptions;
  readonly #onAcknowledged: (entries: readonly InboxEntry[]) => void;
  #done: InboxEntry[] = [];
  #letters: DeadLetter[] = [];
  #receipts: { message: Message; receipt: Receipt }[] = [];
  #writing: Promise<void> | null = null;
  #gathering: NodeJS.Timeout | undefined;
  readonly #stopping = new AbortController();

  /** @param onAcknowledged called with the entries that have left the inbox. */
  constructor(options: DeliveryResultsOptions, onAcknowledged: (entries: readonly InboxEntry[]) => void) {
    this.#options = options;
    this.#onAcknowledged = onAcknowledged;
  }

  addLetter(letter: DeadLetter): void {
    this.#letters.push(letter);
    this.#write();
  }

  addReceipt(message: Message, receipt: Receipt): void {
    this.#receipts.push({ message, receipt });
    this.#write();
  }

  /** The entry is finished and leaves the inbox. */
  finish(entry: InboxEntry): void {
    this.#done.push(entry);
    if (this.#done.length >= MOST_GATHERED) this.#write();
    else this.#gathering ??= setTimeout(() => this.#write(), GATHER_MS);
  }

  /** Tries once more to write what is left; waits at most `graceMs`. */
  async stop(graceMs: number): Promise<void> {
    this.kill();
    this.#write();
    await orLate(this.#writing ?? Promise.resolve(), graceMs);
  }

  /** No failed write is tried again after this. Safe to repeat. */
  kill(): void {
    this.#stopping.abort();
    clearTimeout(this.#gathering);
  }

  #write(): void {
    this.#writing ??= this.#writeAll();
  }

  async #writeAll(): Promise<void> {
    const { signal } = this.#stopping;
    // Results of the same turn are written together.
    await new Promise((resolve) => setImmediate(resolve));
    while (this.#done.length + this.#letters.length + this.#receipts.length > 0) {
      // Without the lease, another worker may have the id, and finds all
      // these messages in the inbox. Or the lease is back in a moment.
      const isWritten = this.#options.holdsId() && (await this.#writeOnce());
      if (isWritten) continue;
      if (signal.aborted) break;
      await pause(RETRY_MS, signal);
    }
    // Right after the last check, so that no result can be added in between.
    this.#writing = null;
  }

  /**
   * Writes dead letters first, then removes entries from the inbox: a crash in between repeats something and loses nothing.
   * @returns false if something could not be written; it is kept here.
   */
  async #writeOnce(): Promise<boolean> {
    const { redis, keys, routing, node, incarnation } = this.#options;
    clearTimeout(this.#gathering);
    this.#gathering = undefined;
    const done = this.#done.splice(0);
    const letters = this.#letters.splice(0);
    const receipts = this.#receipts.splice(0);
    const failed = (error: unknown) => {
      this.#options.onError(error);
      return false;
    };
    const isWritten = (work: Promise<void>) => work.then(() => true, failed);
    const buried = letters.length === 0 || (await isWritten(routing.bury(node, letters)));
    const [told, acknowledged] = await Promise.all([
      receipts.length === 0 || isWritten(giveReceipts(redis, keys, receipts)),
      done.length === 0 || (buried && isWritten(acknowledgeEntries(redis, keys, node, incarnation(), done))),
    ]);
    if (!buried) this.#letters.unshift(...letters);
    if (!told) this.#receipts.unshift(...receipts);
    if (!acknowledged) this.#done.unshift(...done);
    else this.#onAcknowledged(done);
    return buried && told && acknowledged;
  }
}
