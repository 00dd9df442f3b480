import { type DeadCode, MAX_TRIES, type Message } from "../../../src/domain/message.ts";
import { errorText } from "../../../src/error-text.ts";
import type { Delivered } from "../protocol/adaptor.ts";

/** Messages of different senders that one stitch works on at once. */
const MOST_AT_ONCE = 64;
/** A delivery that is not acknowledged within this is made again. */
const ACK_MS = 10_000;
/** Waited after a failed delivery, twice as long each time. */
const BACKOFF_MS = 200;

/** One message on its way to one stitch. */
type Delivery = {
  readonly message: Message;
  tries: number;
  /** Ends it: it has been dealt with, or never will be. */
  readonly end: (how: DeliveryEnd) => void;
};

export type DeliveryEnd =
  | { readonly kind: "delivered"; readonly by: Exclude<Delivered, { kind: "failed" }> }
  | { readonly kind: "dead"; readonly code: DeadCode; readonly reason: string }
  /** The same message came to the stitch elsewhere. */
  | { readonly kind: "elsewhere" };

type MailboxOptions = {
  /** Hands a message to the stitch; null where it cannot take one now (it does not run). */
  readonly deliver: (message: Message) => Promise<Delivered> | null;
  /** How long, in all, the stitch could not answer, for reasons that are not its own. */
  readonly heldMs: () => number;
};

/** What one sender has for the stitch, in order; its replies stand in a row of their own. */
type Row = { readonly name: string; readonly isReplies: boolean; readonly waiting: Delivery[] };

/**
 * What waits for one stitch. Of each sender one message at a time, so that they arrive in order; of different senders
 * several, in turn. A delivery that fails, or is not acknowledged in time, is made again; after `MAX_TRIES` it is dead. An
 * acknowledgement that comes late counts all the same.
 *
 * A reply waits neither behind other messages of its sender nor for one of the `MOST_AT_ONCE` places: the stitch may be
 * asking while it works on just those.
 */
export class Mailbox {
  readonly #o: MailboxOptions;
  readonly #rows = new Map<string, Row>();
  /** Rows whose first message may be delivered now. */
  readonly #ready = { replies: new Set<Row>(), others: new Set<Row>() };
  readonly #timers = new Set<NodeJS.Timeout>();
  #busy = 0;

  constructor(options: MailboxOptions) {
    this.#o = options;
  }

  get isEmpty(): boolean {
    return this.#rows.size === 0;
  }

  add(delivery: Delivery): void {
    const isReplies = delivery.message.re !== null;
    const name = `${isReplies ? "replies of " : ""}${delivery.message.from}`;
    const row = this.#rows.get(name);
    if (row !== undefined) {
      row.waiting.push(delivery);
      return;
    }
    const made: Row = { name, isReplies, waiting: [delivery] };
    this.#rows.set(name, made);
    this.#readyRows(made).add(made);
    this.wake();
  }

  /** Delivers what can be delivered: the stitch has come up, or there is something new. */
  wake(): void {
    for (const row of this.#ready.replies) if (!this.#attempt(row)) return;
    for (const row of this.#ready.others) if (this.#busy >= MOST_AT_ONCE || !this.#attempt(row)) return;
  }

  /** Nothing is delivered any more; what waits is handed back. */
  close(): Delivery[] {
    for (const timer of this.#timers) clearTimeout(timer);
    this.#timers.clear();
    const left = [...this.#rows.values()].flatMap(({ waiting }) => waiting);
    this.#rows.clear();
    this.#ready.replies.clear();
    this.#ready.others.clear();
    return left;
  }

  #readyRows({ isReplies }: Row): Set<Row> {
    return isReplies ? this.#ready.replies : this.#ready.others;
  }

  /** Delivers the first of a row. @returns false where the stitch takes none. */
  #attempt(row: Row): boolean {
    const [delivery] = row.waiting;
    const result = delivery === undefined ? null : this.#o.deliver(delivery.message);
    if (delivery === undefined || result === null) return false;
    this.#readyRows(row).delete(row);
    delivery.tries += 1;
    const place = row.isReplies ? 0 : 1;
    this.#busy += place;
    // It has come to an end before, by another attempt, or the stitch is gone.
    const isOver = () => this.#rows.get(row.name) !== row || row.waiting[0] !== delivery;
    /** Not answered, and not given up: at most one delivery of a message is. */
    let open = true;
    let heldMs = this.#o.heldMs();
    const release = () => {
      this.#forget(late);
      if (open) this.#busy -= place;
      open = false;
    };
    const onLate = () => {
      const heldSinceMs = this.#o.heldMs() - heldMs;
      if (heldSinceMs >= 1) {
        heldMs += heldSinceMs;
        late = this.#later(heldSinceMs, onLate);
        return;
      }
      release();
      if (!isOver())
        this.#failed(row, delivery, {
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
        if (how.kind !== "failed") this.#end(row, delivery, { kind: "delivered", by: how });
        else if (inTime) this.#failed(row, delivery, { code: "stitch_failed", reason: how.reason });
      }
      this.wake();
    };
    result.then(arrived, (error: unknown) => arrived({ kind: "failed", reason: errorText(error) }));
    return true;
  }

  #failed(row: Row, delivery: Delivery, why: { code: DeadCode; reason: string }): void {
    if (delivery.tries >= MAX_TRIES) {
      this.#end(row, delivery, { kind: "dead", ...why });
      return;
    }
    // Not ready meanwhile: what this sender sent later must not overtake it.
    this.#later(BACKOFF_MS * 2 ** (delivery.tries - 1), () => {
      if (row.waiting[0] !== delivery) return;
      this.#readyRows(row).add(row);
      this.wake();
    });
  }

  #end(row: Row, delivery: Delivery, how: DeliveryEnd): void {
    row.waiting.shift();
    const ready = this.#readyRows(row);
    ready.delete(row);
    if (row.waiting.length === 0) this.#rows.delete(row.name);
    // Behind the others: senders take turns.
    else ready.add(row);
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
