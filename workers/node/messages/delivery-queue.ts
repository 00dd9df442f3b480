import { type DeadCode, MAX_TRIES, type Message } from "../../../src/domain/message.ts";
import { errorText } from "../../../src/error-text.ts";
import type { Delivered } from "../protocol/adaptor.ts";

/** Messages, of different senders, that one stitch works on at once. */
const MOST_AT_ONCE = 64;
/** A delivery that is not acknowledged within this time is repeated. */
const ACK_MS = 10_000;
/** Delay after a failed delivery; twice as long each time. */
const BACKOFF_MS = 200;

/** One message on its way to one stitch. */
type Delivery = {
  readonly message: Message;
  tries: number;
  /** Ends the delivery: the message has been handled, or never will be. */
  readonly end: (how: DeliveryEnd) => void;
};

export type DeliveryEnd =
  | { readonly kind: "delivered"; readonly by: Exclude<Delivered, { kind: "failed" }> }
  | { readonly kind: "dead"; readonly code: DeadCode; readonly reason: string }
  /** The stitch got the same message on another node. */
  | { readonly kind: "elsewhere" };

type DeliveryQueueOptions = {
  /** Delivers a message to the stitch; null if the stitch cannot take one now (it does not run). */
  readonly deliver: (message: Message) => Promise<Delivered> | null;
  /** The total time that the stitch could not answer for reasons that are not its own. */
  readonly heldMs: () => number;
};

/** The messages of one sender for the stitch, in order. The sender's replies have their own queue. */
type SenderQueue = { readonly name: string; readonly isReplies: boolean; readonly waiting: Delivery[] };

/**
 * The messages that wait for one stitch. Each sender has one message delivered at a time, so that its messages arrive in
 * order; several senders are served at once, in turn. A delivery that fails, or is not acknowledged in time, is repeated;
 * after `MAX_TRIES` it is dead. A late acknowledgement still counts.
 *
 * A reply waits neither behind other messages of its sender nor for one of the `MOST_AT_ONCE` places: the stitch may wait
 * for this reply while it works on the messages in those places.
 */
export class DeliveryQueue {
  readonly #options: DeliveryQueueOptions;
  readonly #senders = new Map<string, SenderQueue>();
  /** Queues of senders whose first message may be delivered now. */
  readonly #ready = { replies: new Set<SenderQueue>(), others: new Set<SenderQueue>() };
  readonly #timers = new Set<NodeJS.Timeout>();
  #busy = 0;

  constructor(options: DeliveryQueueOptions) {
    this.#options = options;
  }

  get isEmpty(): boolean {
    return this.#senders.size === 0;
  }

  add(delivery: Delivery): void {
    const isReplies = delivery.message.re !== null;
    const name = `${isReplies ? "replies of " : ""}${delivery.message.from}`;
    const sender = this.#senders.get(name);
    if (sender !== undefined) {
      sender.waiting.push(delivery);
      return;
    }
    const made: SenderQueue = { name, isReplies, waiting: [delivery] };
    this.#senders.set(name, made);
    this.#readyQueues(made).add(made);
    this.wake();
  }

  /** Delivers what can be delivered now: the stitch has come up, or there is something new. */
  wake(): void {
    for (const sender of this.#ready.replies) if (!this.#attempt(sender)) return;
    for (const sender of this.#ready.others) if (this.#busy >= MOST_AT_ONCE || !this.#attempt(sender)) return;
  }

  /** Stops all deliveries. @returns the deliveries that have not ended. */
  close(): Delivery[] {
    for (const timer of this.#timers) clearTimeout(timer);
    this.#timers.clear();
    const left = [...this.#senders.values()].flatMap(({ waiting }) => waiting);
    this.#senders.clear();
    this.#ready.replies.clear();
    this.#ready.others.clear();
    return left;
  }

  #readyQueues({ isReplies }: SenderQueue): Set<SenderQueue> {
    return isReplies ? this.#ready.replies : this.#ready.others;
  }

  /** Delivers the first message of a sender. @returns false if the stitch takes none. */
  #attempt(sender: SenderQueue): boolean {
    const [delivery] = sender.waiting;
    const result = delivery === undefined ? null : this.#options.deliver(delivery.message);
    if (delivery === undefined || result === null) return false;
    this.#readyQueues(sender).delete(sender);
    delivery.tries += 1;
    const place = sender.isReplies ? 0 : 1;
    this.#busy += place;
    // Another attempt has ended the delivery, or the stitch is gone.
    const isOver = () => this.#senders.get(sender.name) !== sender || sender.waiting[0] !== delivery;
    /** This attempt is neither answered nor given up. At most one attempt of a delivery is open. */
    let open = true;
    let heldMs = this.#options.heldMs();
    const release = () => {
      this.#forget(late);
      if (open) this.#busy -= place;
      open = false;
    };
    const onLate = () => {
      const heldSinceMs = this.#options.heldMs() - heldMs;
      if (heldSinceMs >= 1) {
        heldMs += heldSinceMs;
        late = this.#later(heldSinceMs, onLate);
        return;
      }
      release();
      if (!isOver())
        this.#failed(sender, delivery, {
          code: "not_acknowledged",
          reason: `delivered ${MAX_TRIES} times, and not acknowledged within ${ACK_MS} ms`,
        });
      this.wake();
    };
    let late = this.#later(ACK_MS, onLate);
    const arrived = (how: Delivered) => {
      const inTime = open;
      release();
      if (!isOver()) {
        if (how.kind !== "failed") this.#end(sender, delivery, { kind: "delivered", by: how });
        else if (inTime) this.#failed(sender, delivery, { code: "stitch_failed", reason: how.reason });
      }
      this.wake();
    };
    result.then(arrived, (error: unknown) => arrived({ kind: "failed", reason: errorText(error) }));
    return true;
  }

  #failed(sender: SenderQueue, delivery: Delivery, why: { code: DeadCode; reason: string }): void {
    if (delivery.tries >= MAX_TRIES) {
      this.#end(sender, delivery, { kind: "dead", ...why });
      return;
    }
    // The sender is not ready meanwhile, so that its later messages do not overtake this one.
    this.#later(BACKOFF_MS * 2 ** (delivery.tries - 1), () => {
      if (sender.waiting[0] !== delivery) return;
      this.#readyQueues(sender).add(sender);
      this.wake();
    });
  }

  #end(sender: SenderQueue, delivery: Delivery, how: DeliveryEnd): void {
    sender.waiting.shift();
    const ready = this.#readyQueues(sender);
    ready.delete(sender);
    if (sender.waiting.length === 0) this.#senders.delete(sender.name);
    // Behind the other senders: they take turns.
    else ready.add(sender);
    delivery.end(how);
  }

  #later(ms: number, work: () => void): NodeJS.Timeout {
    const timer = setTimeout(() => {
      this.#timers.delete(timer);
      work();
    }, ms);
    this.#timers.add(timer);
    return timer;
  }

  #forget(timer: NodeJS.Timeout): void {
    clearTimeout(timer);
    this.#timers.delete(timer);
  }
}
