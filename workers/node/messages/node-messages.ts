import type { Routes } from "../../../src/master/ports.ts";
import type { RedisClient } from "../../../src/redis/connection/client.ts";
import type { Keys } from "../../../src/redis/keys.ts";
import type { Outbox } from "../sending/outbox.ts";
import type { StitchRegistry } from "../stitches/stitch-registry.ts";
import { InboxReader } from "./inbox-reader.ts";
import { LogQuestions } from "./log-questions.ts";
import { MessageDelivery } from "./message-delivery.ts";

type NodeMessagesOptions = {
  readonly redis: RedisClient;
  /** Opens a connection in the role `blocking`; the inbox reader disconnects it. */
  readonly openBlocking: () => RedisClient;
  readonly keys: Keys;
  readonly node: string;
  readonly routing: Pick<Routes, "locate" | "bury">;
  readonly registry: StitchRegistry;
  readonly outbox: Outbox;
  /** The incarnation of this worker's last registration. */
  readonly incarnation: () => number;
  /** The last inbox entry that an earlier run of the worker took. */
  readonly lastTaken: string;
  readonly holdsId: () => boolean;
  /** See `Membership.leaseLeftMs`. */
  readonly leaseLeftMs: () => number;
  /** Redis's time. */
  readonly nowMs: () => number;
  readonly onError: (error: unknown) => void;
};

/** Reads the inbox of one node: brings its messages to the stitches, and answers questions about their logs. */
export class NodeMessages {
  readonly delivery: MessageDelivery;
  readonly #questions: LogQuestions;
  readonly #inbox: InboxReader;

  constructor(options: NodeMessagesOptions) {
    this.#questions = new LogQuestions({ ...options, log: (id) => options.registry.log(id) });
    this.delivery = new MessageDelivery(options);
    this.#inbox = new InboxReader({
      ...options,
      onMessage: (entry) => this.delivery.take(entry),
      messagesHeld: () => this.delivery.held,
      handlers: this.#questions.handlers,
      redisNowMs: options.nowMs,
    });
  }

  /** Resolves when the inbox exists and is read. */
  async start(): Promise<void> {
    await this.#inbox.start();
  }

  /** Delivers nothing more, because the stitches are about to be stopped. Open deliveries may still be acknowledged. */
  hold(): void {
    this.delivery.hold();
  }

  /** Reads nothing more, and waits at most `graceMs` for the answers in progress. */
  async stopReading(graceMs: number): Promise<void> {
    await Promise.all([this.#inbox.stop(graceMs), this.#questions.stop(graceMs)]);
  }

  /** Stops at once. Messages that are not acknowledged stay in the inbox. Safe to repeat. */
  kill(): void {
    this.#inbox.kill();
    this.delivery.kill();
    this.#questions.kill();
  }
}
