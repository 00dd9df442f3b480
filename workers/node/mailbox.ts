import { type DeadCode, MAX_TRIES, type Message } from "../../src/domain/message.ts";
import type { Delivered } from "./adaptors/adaptor.ts";

/** Messages of different senders that one stitch works on at once. */
const MOST_AT_ONCE = 64;
/** A delivery that is not acknowledged within this is made again. */
const ACK_MS = 10_000;
/** Waited after a failed delivery, twice as long each time. */
const BACKOFF_MS = 200;

/** One message on its way to one stitch. */
export type Delivery = {
  readonly message: Message;
  tries: number;
  /** Ends it: it has been dealt with, or never will be. */
  readonly end: (how: DeliveryEnd) => void;
};

export type DeliveryEnd =
  | { readonly kind: "delivered"; readonly by: Exclude<Delivered, { kind: "failed" }> }
  | { readonly kind: "dead"; readonly code: DeadCode; readonly reason: string };

/** Hands a message to the stitch; null where it cannot take one now (it does not run). */
export type Deliver = (message: Message) => Promise<Delivered> | null;

type Sender = { readonly waiting: Delivery[]; busy: boolean; again: NodeJS.Timeout | undefined };

/**
 * What waits for one stitch. Of each sender one message at a time, so that they arrive in order; of different senders
 * several. A delivery that fails, or is not acknowledged in time, is made again; after `MAX_TRIES` it is dead. An
 * acknowledgement that comes late counts all the same.
 */
export class Mailbox {
  readonly #deliver: Deliver;
  readonly #senders = new Map<string, Sender>();
  readonly #timers = new Set<NodeJS.Timeout>();
  #busy = 0;

  constructor(deliver: Deliver) {
    this.#deliver = deliver;
  }

  get isEmpty(): boolean {
    return this.#senders.size === 0;
  }

  add(delivery: Delivery): void {
    const { from } = delivery.message;
    const sender = this.#senders.get(from) ?? { waiting: [], busy: false, again: undefined };
    sender.waiting.push(delivery);
    this.#senders.set(from, sender);
    if (!sender.busy) this.#next(from, sender);
  }

  /** The stitch may take messages again: it has come up, or has room. */
  wake(): void {
    for (const [from, sender] of this.#senders) if (!sender.busy) this.#next(from, sender);
  }

  /** Nothing is delivered any more; what waits is handed back. */
  close(): Delivery[] {
    for (const timer of this.#timers) clearTimeout(timer);
    this.#timers.clear();
    const left = [...this.#senders.values()].flatMap(({ waiting }) => waiting);
    this.#senders.clear();
    return left;
  }

  #next(from: string, sender: Sender): void {
    const [delivery] = sender.waiting;
    if (delivery === undefined) {
      this.#senders.delete(from);
      return;
    }
    if (this.#busy >= MOST_AT_ONCE) return;
    const receipt = this.#deliver(delivery.message);
    if (receipt === null) return;
    sender.busy = true;
    this.#busy += 1;
    delivery.tries += 1;
    const attempt = delivery.tries;
    const isHead = () => this.#senders.get(from) === sender && sender.waiting[0] === delivery;
    let open = true;
    const release = () => {
      clearTimeout(late);
      this.#timers.delete(late);
      if (!open) return;
      open = false;
      this.#busy -= 1;
    };
    const late = this.#later(ACK_MS, () => {
      release();
      if (isHead() && attempt === delivery.tries)
        this.#failed(from, sender, delivery, {
          code: "not_acknowledged",
          reason: `delivered ${MAX_TRIES} times, and not acknowledged within ${ACK_MS} ms`,
        });
      this.#refill();
    });
    const arrived = (result: Delivered) => {
      const inTime = open;
      release();
      if (isHead()) {
        if (result.kind !== "failed") this.#done(from, sender, delivery, result);
        else if (inTime && attempt === delivery.tries)
          this.#failed(from, sender, delivery, { code: "stitch_failed", reason: result.reason });
      }
      this.#refill();
    };
    receipt.then(arrived, (error: unknown) =>
      arrived({ kind: "failed", reason: error instanceof Error ? error.message : String(error) }),
    );
  }

  #refill(): void {
    if (this.#busy === MOST_AT_ONCE - 1) this.wake();
  }

  #done(from: string, sender: Sender, delivery: Delivery, by: Exclude<Delivered, { kind: "failed" }>): void {
    clearTimeout(sender.again);
    sender.waiting.shift();
    sender.busy = false;
    this.#next(from, sender);
    delivery.end({ kind: "delivered", by });
  }

  #failed(from: string, sender: Sender, delivery: Delivery, why: { code: DeadCode; reason: string }): void {
    if (delivery.tries < MAX_TRIES) {
      // Busy meanwhile: what this sender sent later must not overtake it.
      sender.again = this.#later(BACKOFF_MS * 2 ** (delivery.tries - 1), () => {
        sender.busy = false;
        if (this.#senders.get(from) === sender) this.#next(from, sender);
      });
      return;
    }
    sender.waiting.shift();
    sender.busy = false;
    this.#next(from, sender);
    delivery.end({ kind: "dead", ...why });
  }

  #later(ms: number, work: () => void): NodeJS.Timeout {
    const timer = setTimeout(() => {
      this.#timers.delete(timer);
      work();
    }, ms);
    this.#timers.add(timer);
    return timer;
  }
}
