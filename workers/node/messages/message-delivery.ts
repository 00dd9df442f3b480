import { pause } from "../../../src/bounded-wait.ts";
import { fullId, splitFullId } from "../../../src/domain/names/ids.ts";
import {
  API_SENDER,
  asLetter,
  type DeadCode,
  MAX_HOPS,
  type Message,
  readMessage,
  type Receipt,
} from "../../../src/domain/message.ts";
import { RequestError } from "../../../src/domain/errors.ts";
import type { RemovedRecord } from "../../../src/domain/stitch/stitch.ts";
import { errorText } from "../../../src/error-text.ts";
import type { Routes } from "../../../src/master/ports.ts";
import { entryAtMs, type InboxEntry, isLaterEntry } from "../../../src/redis/inbox/inbox.ts";
import { STITCH_BYTES, STITCH_MESSAGES } from "../../../src/redis/inbox/put-messages.ts";
import type { Delivered } from "../protocol/adaptor.ts";
import type { HostedStitch } from "../stitches/hosted-stitch.ts";
import { type DeliveryEnd, DeliveryQueue } from "./delivery-queue.ts";
import { DeliveryResults, type DeliveryResultsOptions } from "./delivery-results.ts";
import type { Outbox } from "../sending/outbox.ts";
import { ROUTE_MS } from "../sending/recipients.ts";
import type { StitchRegistry } from "../stitches/stitch-registry.ts";

/** Delay before a failed read of a route is tried again. */
const RETRY_MS = 500;
/**
 * How long a reply waits for room in the inbox of its recipient; then it is a dead letter. It must not wait for ever,
 * because the answered message stays in the inbox here until then. Otherwise two stitches that are full of each other's
 * requests would wait for each other, and a stitch that asks but does not read would block the stitch that answers.
 */
const REPLY_ROOM_MS = 8000;
/** An entry that is older than this when it is taken was stored while the node was cut off, or hung. */
const AWAY_MS = 2000;

type MessageDeliveryOptions = DeliveryResultsOptions & {
  readonly routing: Pick<Routes, "locate" | "bury">;
  readonly registry: StitchRegistry;
  readonly outbox: Outbox;
  /** The last inbox entry that an earlier run of the worker took. */
  readonly lastTaken: string;
  /** Redis's time. */
  readonly nowMs: () => number;
};

/** A message of the inbox, and the number of its deliveries that have not ended. */
type Held = { readonly entry: InboxEntry; readonly message: Message; open: number };
/** The messages that wait for one stitch, their number and their bytes. */
type StitchQueue = { readonly queue: DeliveryQueue; count: number; bytes: number };

/**
 * Delivers the messages of a node's inbox to its stitches. A message stays in the inbox until every
 * recipient has acknowledged it, or it is a dead letter. If the worker dies, the next run of the
 * worker finds its unfinished messages there.
 */
export class MessageDelivery {
  readonly #options: MessageDeliveryOptions;
  readonly #queues = new Map<string, StitchQueue>();
  readonly #held = new Map<string, Held>();
  readonly #results: DeliveryResults;
  #leaving = false;
  /** When this run of the worker began, by Redis's clock. */
  readonly #sinceMs: number;
  #lastTaken: string;
  readonly #stopping = new AbortController();

  constructor(options: MessageDeliveryOptions) {
    this.#options = options;
    this.#results = new DeliveryResults(options, (entries) => {
      for (const { id } of entries) this.#held.delete(id);
    });
    this.#sinceMs = options.nowMs();
    this.#lastTaken = options.lastTaken;
  }

  /** The number of messages that are taken and not acknowledged yet. */
  get held(): number {
    return this.#held.size;
  }

  /** The id of the last entry that this run of the worker, or an earlier one, took. */
  get lastTaken(): string {
    return this.#lastTaken;
  }

  /** Takes an entry. Does nothing if the entry was taken already. */
  take(entry: InboxEntry): void {
    if (this.#stopping.signal.aborted || this.#held.has(entry.id)) return;
    // Entries that an earlier run of the worker took come again.
    if (isLaterEntry(entry.id, this.#lastTaken)) this.#lastTaken = entry.id;
    const read = readMessage(entry.body);
    if ("wrong" in read) {
      this.#options.onError(new Error(`a message in the inbox is dropped (${entry.id}): ${read.wrong}`));
      this.#results.finish(entry);
      return;
    }
    const { message } = read;
    const held: Held = { entry, message, open: 1 };
    this.#held.set(entry.id, held);
    for (const id of this.#recipients(entry, message)) this.#bring(held, id);
    this.#close(held);
  }

  /** The bare ids of the recipients. Members of a group are looked up when the message has come, with those that moved away. */
  #recipients(entry: InboxEntry, message: Message): readonly string[] {
    const { to, from } = message;
    if ("stitch" in to) return [to.stitch];
    if ("stitches" in to) return to.stitches;
    const { registry, node } = this.#options;
    const members = registry
      .receivers(to.group)
      .map(({ record }) => record)
      // If an earlier run took the message, a newer member may already have later messages of the same sender.
      .filter(({ mailAfter }) => mailAfter === null || isLaterEntry(entry.id, mailAfter));
    const away = registry
      .movedAway(to.group)
      .filter((gone) => gone.movedTo !== from && this.#mayHaveMeant(gone, entry, message));
    // No stitch gets its own message to its own group.
    return [...members, ...away].map(({ id }) => id).filter((id) => fullId(node, id) !== from);
  }

  /**
   * Did the sender of a group message still see this member on this node? A later sender found the member at its new place.
   * The time of sending counts, too: a message that found no room was stored long after it was sent.
   */
  #mayHaveMeant({ removedAtMs }: RemovedRecord, { id }: InboxEntry, { sentAtMs }: Message): boolean {
    return Math.min(entryAtMs(id), sentAtMs ?? Number.POSITIVE_INFINITY) <= removedAtMs + ROUTE_MS;
  }

  /** Call this when a stitch has come up, or is gone. */
  changed(stitch: HostedStitch): void {
    const { id, state } = stitch.record;
    const waiting = this.#queues.get(id);
    if (waiting === undefined) return;
    if (this.#options.registry.find(id) === null) {
      this.#queues.delete(id);
      const reason = "the stitch was removed before it took the message";
      for (const { message, end } of waiting.queue.close())
        if ("group" in message.to && this.#options.registry.isTakenBack(id)) end({ kind: "elsewhere" });
        else end({ kind: "dead", code: "no_recipient", reason });
    } else if (state === "running") waiting.queue.wake();
  }

  /** Call this when the stitch with this id can take messages again. */
  wake(id: string): void {
    this.#queues.get(id)?.queue.wake();
  }

  /** Delivers nothing more, because the stitches are about to be stopped. Open deliveries may still be acknowledged. */
  hold(): void {
    this.#leaving = true;
  }

  /** Delivers nothing more, and writes the finished results; waits at most `graceMs`. The rest stays in the inbox. */
  async stop(graceMs: number): Promise<void> {
    this.kill();
    await this.#results.stop(graceMs);
  }

  /** Stops at once. */
  kill(): void {
    this.#leaving = true;
    this.#stopping.abort();
    this.#results.kill();
    for (const { queue } of this.#queues.values()) queue.close();
    this.#queues.clear();
  }

  #bring(held: Held, id: string): void {
    const { registry, node } = this.#options;
    const stitch = registry.find(id);
    const movedTo = stitch === null ? registry.movedTo(id) : null;
    if (movedTo !== null) this.#forward(held, id, movedTo);
    else if (stitch === null && held.message.bare === true) this.#sendOn(held, id).catch(this.#options.onError);
    else if (stitch === null) this.#dead(held, id, 0, "no_recipient", `${node} has no such stitch`);
    else if (!stitch.record.takesMessages)
      this.#dead(held, id, 0, "not_addressable", "it speaks no protocol that takes messages");
    else if (this.#isFull(held, id))
      this.#dead(held, id, 0, "inbox_full", "as much waits for it already as may wait for one stitch");
    else this.#deliver(held, id);
  }

  /**
   * A message for one stitch was counted for that stitch when it was put into the inbox; a message for several was not.
   * Messages that waited for the node do not count against a stitch that should run: such a node delivers all that it finds.
   */
  #isFull({ message, entry }: Held, id: string): boolean {
    const waiting = this.#queues.get(id);
    if (waiting === undefined || "stitch" in message.to) return false;
    if (waiting.count < STITCH_MESSAGES && waiting.bytes + entry.body.length <= STITCH_BYTES) return false;
    const atMs = entryAtMs(entry.id);
    const wasAway = atMs < this.#sinceMs || this.#options.nowMs() - atMs > AWAY_MS;
    return !wasAway || this.#options.registry.find(id)?.record.desired !== "running";
  }

  #queueFor(id: string): StitchQueue {
    const stitch = () => this.#options.registry.find(id);
    const waiting = this.#queues.get(id) ?? {
      queue: new DeliveryQueue({
        deliver: (message) => (this.#leaving ? null : (stitch()?.deliver(message) ?? null)),
        heldMs: () => stitch()?.heldMs ?? 0,
      }),
      count: 0,
      bytes: 0,
    };
    this.#queues.set(id, waiting);
    return waiting;
  }

  #deliver(held: Held, id: string): void {
    const waiting = this.#queueFor(id);
    const bytes = held.entry.body.length;
    held.open += 1;
    waiting.count += 1;
    waiting.bytes += bytes;
    const delivery = {
      message: held.message,
      tries: 0,
      end: (how: DeliveryEnd) => {
        waiting.count -= 1;
        waiting.bytes -= bytes;
        if (waiting.queue.isEmpty && this.#queues.get(id) === waiting) this.#queues.delete(id);
        if (how.kind === "delivered") this.#delivered(held, id, how.by);
        else if (how.kind === "elsewhere") this.#close(held);
        else this.#undelivered(held, id, delivery.tries, how);
      },
    };
    waiting.queue.add(delivery);
  }

  #delivered(held: Held, id: string, by: Exclude<Delivered, { kind: "failed" }>): void {
    if (by.kind === "acked") {
      this.#receipt(held.message, id, { status: "acked" });
      this.#close(held);
      return;
    }
    // The message is acknowledged when the reply is on its way, so that the reply cannot be lost between the two.
    const close = () => {
      if (!this.#stopping.signal.aborted) this.#close(held);
    };
    by.sent.then(close, this.#options.onError);
  }

  #undelivered(held: Held, id: string, tries: number, { code, reason }: { code: DeadCode; reason: string }): void {
    // The stitch was stopped with the worker, so the delivery has not
    // failed: the next run of the worker finds the message in the inbox.
    if (this.#leaving) return;
    const movedTo = this.#options.registry.find(id) === null ? this.#options.registry.movedTo(id) : null;
    if (movedTo !== null) this.#forward(held, id, movedTo);
    else this.#dead(held, id, tries, code, reason);
    this.#close(held);
  }

  /**
   * Sends a stitch's reply to the sender of the message, in order with the other messages of the stitch: call this at once.
   * Resolves when the reply is on its way, or given up: a reply without room is a dead letter, a reply that cannot be sent
   * is noted in the stitch's log. Never rejects.
   */
  async reply(id: string, message: Message, channel: string, data: string): Promise<void> {
    if (message.from.startsWith(API_SENDER)) {
      this.#receipt(message, id, { status: "replied", data });
      return;
    }
    const nowMs = this.#options.nowMs();
    const reply = {
      id: `${message.id}.r`,
      from: fullId(this.#options.node, id),
      channel,
      data,
      ref: null,
      re: message.ref,
      receipt: null,
      hops: 0,
      sentAtMs: nowMs,
    };
    try {
      await this.#options.outbox.send({ stitch: message.from }, reply, { untilMs: nowMs + REPLY_ROOM_MS });
    } catch (error) {
      if (this.#stopping.signal.aborted) return;
      if (error instanceof RequestError && error.code === "inbox_full")
        this.#bury(reply, message.from, 0, "inbox_full", `no room for it within ${REPLY_ROOM_MS} ms`);
      const text = `its reply to ${message.from} could not be sent: ${errorText(error)}`;
      void this.#options.registry.log(id)?.write("system", text, nowMs);
    }
  }

  /** Sends a message on to the current place of its bare id: its sender used a stale route. */
  async #sendOn(held: Held, id: string): Promise<void> {
    held.open += 1;
    const { routing, node, onError } = this.#options;
    const { signal } = this.#stopping;
    let found: string[] | null = null;
    while (found === null && !signal.aborted) {
      found = await routing.locate(id).catch((error: unknown) => {
        onError(error);
        return null;
      });
      if (found === null) await pause(RETRY_MS, signal);
    }
    // The message stays in the inbox for the next run of the worker.
    if (found === null || signal.aborted) return;
    // The route to the stitch that this node had may still be there.
    const [only, ...others] = found.filter((each) => splitFullId(each).node !== node);
    if (only === undefined) this.#dead(held, id, 0, "no_recipient", `${node} has no such stitch`);
    else if (others.length === 0) this.#forward(held, id, only);
    else this.#dead(held, id, 0, "no_recipient", `${node} has no such stitch, and several others have`);
    this.#close(held);
  }

  /** Forwards a message to a stitch that has moved. */
  #forward(held: Held, id: string, movedTo: string): void {
    const { message } = held;
    if (message.hops >= MAX_HOPS) {
      this.#dead(held, id, 0, "too_many_hops", `it was sent after the stitch ${MAX_HOPS} times`);
      return;
    }
    held.open += 1;
    const { to: _, ...rest } = message;
    // The sender knows the stitch by the id that it had at first.
    const receipt = message.receipt === null ? null : { ...message.receipt, stitch: this.#knownAs(message, id) };
    this.#options.outbox.send({ stitch: movedTo }, { ...rest, receipt, hops: message.hops + 1 }).then(
      () => this.#close(held),
      (error: unknown) => {
        // The message stays in the inbox for the next run of the worker.
        if (this.#stopping.signal.aborted) return;
        this.#dead(held, id, 0, "no_recipient", `it is ${movedTo} by now: ${errorText(error)}`);
        this.#close(held);
      },
    );
  }

  #dead({ message }: Held, id: string, tries: number, code: DeadCode, reason: string): void {
    this.#bury(message, fullId(this.#options.node, id), tries, code, reason);
    this.#receipt(message, id, { status: "failed", code });
  }

  #bury(message: Omit<Message, "to">, to: string, tries: number, code: DeadCode, reason: string): void {
    this.#results.addLetter({ to, ...asLetter(message, { code, reason, tries, atMs: this.#options.nowMs() }) });
  }

  #knownAs({ receipt }: Message, id: string): string {
    return receipt?.stitch ?? fullId(this.#options.node, id);
  }

  #receipt(message: Message, id: string, how: Omit<Receipt, "stitch">): void {
    if (message.receipt === null) return;
    this.#results.addReceipt(message, { stitch: this.#knownAs(message, id), ...how });
  }

  /** One delivery of the message has ended. With the last one, the message leaves the inbox. */
  #close(held: Held): void {
    held.open -= 1;
    if (held.open === 0) this.#results.finish(held.entry);
  }
}
