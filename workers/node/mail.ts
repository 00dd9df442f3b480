import { fullId } from "../../src/domain/ids.ts";
import {
  API_SENDER,
  type DeadCode,
  type DeadLetter,
  isAddressable,
  MAX_HOPS,
  type Message,
  message as messageSchema,
  type Receipt,
} from "../../src/domain/message.ts";
import type { RedisClient } from "../../src/redis/client.ts";
import { addDeadLetters } from "../../src/redis/dead-letters.ts";
import { acknowledgeEntries, type InboxEntry } from "../../src/redis/inbox.ts";
import type { Keys } from "../../src/redis/keys.ts";
import { giveReceipts } from "../../src/redis/receipts.ts";
import type { HostedStitch } from "./hosted-stitch.ts";
import { Mailbox } from "./mailbox.ts";
import type { Outbox } from "./outbox.ts";
import type { StitchHost } from "./stitch-host.ts";

/** A group's message that one of its members has no room for is dead for that member alone. */
const MOST_FOR_A_STITCH = 1000;
const RETRY_MS = 500;

export type MailOptions = {
  readonly redis: RedisClient;
  readonly keys: Keys;
  readonly node: string;
  readonly host: StitchHost;
  readonly outbox: Outbox;
  readonly holdsId: () => boolean;
  readonly nowMs: () => number;
  readonly onError: (error: unknown) => void;
};

/** A message of the inbox, and how many of its deliveries have not ended. */
type Held = { readonly entry: InboxEntry; readonly message: Message; open: number };

/**
 * Brings the messages of a node's inbox to its stitches. A message stays in the inbox until every one of its recipients has
 * acknowledged it, or it is a dead letter: what a worker that died had in hand, its next life finds there.
 */
export class Mail {
  readonly #o: MailOptions;
  readonly #boxes = new Map<string, Mailbox>();
  readonly #waitingFor = new Map<string, number>();
  readonly #held = new Map<string, Held>();
  #done: InboxEntry[] = [];
  #letters: DeadLetter[] = [];
  #receipts: { message: Message; receipt: Receipt }[] = [];
  #writing: Promise<void> | null = null;
  #leaving = false;
  #stopped = false;

  constructor(options: MailOptions) {
    this.#o = options;
  }

  /** Messages in hand, not acknowledged yet. */
  get held(): number {
    return this.#held.size;
  }

  /** Takes an entry in hand; one that it has already means nothing. */
  take(entry: InboxEntry): void {
    if (this.#stopped || this.#held.has(entry.id)) return;
    const message = readMessage(entry.body);
    if (message === null) {
      this.#o.onError(new Error(`a message in the inbox cannot be read and is dropped (${entry.id})`));
      this.#finish(entry);
      return;
    }
    const held: Held = { entry, message, open: 1 };
    this.#held.set(entry.id, held);
    if ("stitch" in message.to) this.#toOne(held, message.to.stitch);
    else this.#toMany(held);
    this.#close(held);
  }

  /** A stitch has come up, or is gone. */
  changed(stitch: HostedStitch): void {
    const { id, state } = stitch.record;
    const box = this.#boxes.get(id);
    if (box === undefined) return;
    if (this.#o.host.find(id) === null) {
      this.#boxes.delete(id);
      this.#waitingFor.delete(id);
      for (const { end } of box.close())
        end({ kind: "dead", code: "no_recipient", reason: "the stitch was removed before it took the message" });
    } else if (state === "running") box.wake();
  }

  /** Delivers nothing more, while what is under way may still be acknowledged: the stitches are about to be stopped. */
  hold(): void {
    this.#leaving = true;
  }

  /** Delivers nothing more and writes what has been dealt with, at most `graceMs` long; the rest is left in the inbox. */
  async stop(graceMs: number): Promise<void> {
    this.#leaving = true;
    this.#stopped = true;
    for (const box of this.#boxes.values()) box.close();
    this.#boxes.clear();
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, graceMs);
    });
    await Promise.race([this.#writing ?? Promise.resolve(), late]);
    clearTimeout(timer);
  }

  #toOne(held: Held, id: string): void {
    const stitch = this.#o.host.find(id);
    if (stitch !== null && isAddressable(stitch.record.spec)) {
      this.#deliver(held, stitch);
      return;
    }
    const movedTo = this.#o.host.movedTo(id);
    if (movedTo !== null) this.#forward(held, id, movedTo);
    else if (stitch !== null) this.#dead(held, id, 0, "not_addressable", "it speaks no protocol that takes messages");
    else this.#dead(held, id, 0, "no_recipient", `${this.#o.node} has no such stitch`);
  }

  #toMany(held: Held): void {
    for (const stitch of this.#o.host.receivers(held.message.to)) {
      const { id } = stitch.record;
      // Nobody gets what it has sent to its own group.
      if (fullId(this.#o.node, id) === held.message.from) continue;
      if ((this.#waitingFor.get(id) ?? 0) >= MOST_FOR_A_STITCH)
        this.#dead(held, id, 0, "inbox_full", `${MOST_FOR_A_STITCH} messages wait for it already`);
      else this.#deliver(held, stitch);
    }
  }

  #deliver(held: Held, stitch: HostedStitch): void {
    const { id } = stitch.record;
    held.open += 1;
    this.#waitingFor.set(id, (this.#waitingFor.get(id) ?? 0) + 1);
    const box =
      this.#boxes.get(id) ??
      new Mailbox((message) => (this.#leaving ? null : (this.#o.host.find(id)?.deliver(message) ?? null)));
    this.#boxes.set(id, box);
    const delivery = {
      message: held.message,
      tries: 0,
      end: (how: Parameters<Parameters<Mailbox["add"]>[0]["end"]>[0]) => {
        const left = (this.#waitingFor.get(id) ?? 1) - 1;
        if (left > 0) this.#waitingFor.set(id, left);
        else this.#waitingFor.delete(id);
        if (box.isEmpty && this.#boxes.get(id) === box) this.#boxes.delete(id);
        if (how.kind === "dead") {
          // That its stitch was stopped with the worker is no verdict: the next life finds it in the inbox.
          if (this.#leaving) return;
          const movedTo = this.#o.host.find(id) === null ? this.#o.host.movedTo(id) : null;
          if (movedTo !== null) this.#forward(held, id, movedTo);
          else this.#dead(held, id, delivery.tries, how.code, how.reason);
          this.#close(held);
          return;
        }
        this.#delivered(held, id, how.by);
      },
    };
    box.add(delivery);
  }

  #delivered(held: Held, id: string, by: { kind: "acked" } | { kind: "replied"; channel: string; data: string }): void {
    if (by.kind === "acked") {
      this.#receipt(held.message, { stitch: fullId(this.#o.node, id), status: "acked" });
      this.#close(held);
      return;
    }
    // Acknowledged when the reply is on its way, so that it cannot be lost between the two.
    this.reply(id, held.message, by.channel, by.data).then(() => {
      if (!this.#stopped) this.#close(held);
    }, this.#o.onError);
  }

  /** Sends a stitch's reply to where its message came from. What cannot be sent is noted in its log. Never rejects. */
  async reply(id: string, message: Message, channel: string, data: string): Promise<void> {
    const stitch = fullId(this.#o.node, id);
    if (message.from.startsWith(API_SENDER)) {
      this.#receipt(message, { stitch, status: "replied", data });
      return;
    }
    const reply = {
      id: `${message.id}.r`,
      from: stitch,
      channel,
      data,
      ref: null,
      re: message.ref,
      receipt: null,
      hops: 0,
    };
    try {
      await this.#o.outbox.send({ stitch: message.from }, { ...reply, sentAtMs: this.#o.nowMs() });
    } catch (error) {
      if (this.#stopped) return;
      const text = `its reply to ${message.from} could not be sent: ${textOf(error)}`;
      void this.#o.host.log(id)?.write("system", text, this.#o.nowMs());
    }
  }

  /** Sends a message after a stitch that has moved. */
  #forward(held: Held, id: string, movedTo: string): void {
    const { message } = held;
    if (message.hops >= MAX_HOPS) {
      this.#dead(held, id, 0, "too_many_hops", `it was sent after the stitch ${MAX_HOPS} times`);
      return;
    }
    held.open += 1;
    const { to: _, ...rest } = message;
    this.#o.outbox.send({ stitch: movedTo }, { ...rest, hops: message.hops + 1 }).then(
      () => this.#close(held),
      (error: unknown) => {
        // It stays in the inbox, for the next life to find.
        if (this.#stopped) return;
        this.#dead(held, id, 0, "no_recipient", `it moved to ${movedTo}: ${textOf(error)}`);
        this.#close(held);
      },
    );
  }

  #dead(held: Held, id: string, tries: number, code: DeadCode, reason: string): void {
    const { message } = held;
    const to = fullId(this.#o.node, id);
    const { id: messageId, from, channel, data } = message;
    this.#letters.push({ messageId, from, to, channel, data, code, reason, tries, atMs: this.#o.nowMs() });
    this.#receipt(message, { stitch: to, status: "failed", code });
    this.#write();
  }

  #receipt(message: Message, receipt: Receipt): void {
    if (message.receipt === null) return;
    this.#receipts.push({ message, receipt });
    this.#write();
  }

  /** One of its deliveries has ended; with the last it goes out of the inbox. */
  #close(held: Held): void {
    held.open -= 1;
    if (held.open > 0) return;
    this.#finish(held.entry);
  }

  #finish(entry: InboxEntry): void {
    this.#done.push(entry);
    this.#write();
  }

  #write(): void {
    this.#writing ??= this.#writeAll().finally(() => {
      this.#writing = null;
    });
  }

  /** Dead letters first, then receipts, then out of the inbox: a crash between repeats something and loses nothing. */
  async #writeAll(): Promise<void> {
    const { redis, keys, node } = this.#o;
    // What ends in the same turn goes out together.
    await new Promise((resolve) => setImmediate(resolve));
    while (this.#done.length + this.#letters.length + this.#receipts.length > 0) {
      // Another worker's by now: it will find all of this in the inbox.
      if (!this.#o.holdsId()) return;
      const done = this.#done.splice(0);
      const letters = this.#letters.splice(0);
      const receipts = this.#receipts.splice(0);
      try {
        await addDeadLetters(redis, keys, node, letters);
        await Promise.all([
          giveReceipts(redis, keys, receipts),
          ...(done.length > 0 ? [acknowledgeEntries(redis, keys, node, done)] : []),
        ]);
        for (const { id } of done) this.#held.delete(id);
      } catch (error) {
        this.#o.onError(error);
        this.#done.unshift(...done);
        this.#letters.unshift(...letters);
        this.#receipts.unshift(...receipts);
        if (this.#stopped) return;
        await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
      }
    }
  }
}

function readMessage(body: string): Message | null {
  try {
    return messageSchema.safeParse(JSON.parse(body)).data ?? null;
  } catch {
    return null;
  }
}

const textOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));
