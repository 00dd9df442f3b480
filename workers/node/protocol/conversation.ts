import type { Writable } from "node:stream";
import { MAX_DATA_BYTES, type Message } from "../../../src/domain/message.ts";
import { errorText } from "../../../src/error-text.ts";
import type { Delivered, StartContext } from "./adaptor.ts";
import { Heartbeats } from "./stitch-heartbeats.ts";
import { HeldTime } from "../sending/held-time.ts";
import { type FromStitch, type StitchMessage, writeToStitch } from "./process-v1.ts";

/** Unread input of a stitch may take this much of the worker's memory; then nothing more is written to the stitch. */
const MAX_UNREAD_BYTES = 256 * 1024;
type Unanswered = { readonly message: Message; readonly settle: (how: Delivered) => void };

/** How many unanswered messages are remembered: more than are ever delivered at once. */
const MOST_UNANSWERED = 1000;
/** How many replies of the stitch may be on their way to an inbox at once; then a full inbox holds the stitch up. */
const MOST_REPLYING = 16;
/** `_error` is sent at most this often: two sides that do not understand each other must not flood each other. */
const COMPLAIN_EVERY_MS = 1000;
/** An exit closes both pipes, too, and is known a moment later. A stitch that still runs then has closed them itself. */
const EXIT_KNOWN_MS = 500;

/** The node's side of the protocol (process-v1.md): heartbeats, messages, `_exit`, `_error`, logs. */
export class Conversation {
  readonly #context: StartContext;
  readonly #input: Writable;
  readonly #heartbeats: Heartbeats;
  readonly #nowMs: () => number;
  /** Messages that the stitch has not answered, by the Id they were sent with. */
  readonly #unanswered = new Map<number, Unanswered>();
  /** Messages that the stitch has acknowledged and may still reply to. */
  readonly #acknowledged = new Map<number, Message>();
  /** A message that was delivered twice may be replied to twice: only the first reply is sent. */
  readonly #replied = new WeakSet<Message>();
  #replying = 0;
  /** Heartbeat number by the Id it was sent with. */
  readonly #beats = new Map<number, number>();
  #lastId = 0;
  #open = true;
  #stopped = false;
  /** The end of the stitch is known, and its next run may have begun. */
  #over = false;
  #toldUnsent = false;
  #unread = false;
  readonly #held: HeldTime;
  #complainedAtMs = Number.NEGATIVE_INFINITY;

  constructor(context: StartContext, input: Writable, nowMs: () => number) {
    this.#context = context;
    this.#input = input;
    this.#nowMs = nowMs;
    this.#held = new HeldTime(nowMs);
    this.#heartbeats = new Heartbeats({
      everyMs: context.spec.heartbeatMs,
      send: (number) => this.#beat(number),
      isHeld: () => this.#held.isHeld,
      onHealth: context.onHealth,
    });
    input.on("drain", () => this.#hasRead());
    input.on("error", () => this.#inputClosed());
    input.on("close", () => this.#inputClosed());
  }

  /** Resolves when the stitch has answered for the first time. */
  get heard(): Promise<void> {
    return this.#heartbeats.heard;
  }

  start(): void {
    this.#heartbeats.start();
  }

  /** How long in all the stitch's output was not read, because its messages waited for room. */
  get heldMs(): number {
    return this.#held.totalMs;
  }

  /** Sends nothing more to the stitch; its output is still read. Safe to repeat. */
  fallSilent(): void {
    this.#open = false;
    this.#stopped = true;
    this.#heartbeats.stop();
  }

  /** Call this when no more output comes from the stitch: unanswered messages have failed. Safe to repeat. */
  stop(): void {
    this.fallSilent();
    this.#over = true;
    for (const { settle } of this.#unanswered.values())
      settle({ kind: "failed", reason: "it ended before it answered" });
    this.#unanswered.clear();
  }

  /**
   * Hands the stitch a message; resolves with its answer, however late. null if the stitch does not read its input, or has
   * closed it.
   */
  deliver(message: Message): Promise<Delivered> | null {
    const { from, channel, data, re } = message;
    const id = this.#send(channel, data, from, re);
    if (id === null) return null;
    return new Promise((settle) => {
      this.#unanswered.set(id, { message, settle });
      for (const [old, { settle: giveUp }] of this.#unanswered) {
        if (this.#unanswered.size <= MOST_UNANSWERED) break;
        this.#unanswered.delete(old);
        giveUp({ kind: "failed", reason: "it has not answered so many messages since" });
      }
    });
  }

  /** Asks the stitch to finish and exit. */
  exit(): void {
    this.#send("_exit", "");
    this.fallSilent();
  }

  #beat(number: number): void {
    const id = this.#send("_heartbeat", "");
    if (id === null) return;
    this.#beats.set(id, number);
    // Older heartbeats mean nothing once a later one is answered, and for a stitch that never answers the map must not grow.
    for (const old of this.#beats.keys()) {
      if (this.#beats.size <= 16) break;
      this.#beats.delete(old);
    }
  }

  /** @returns the message's Id, or null if the message cannot be sent. */
  #send(channel: string, data: string, from = "", re: number | null = null): number | null {
    if (!this.#open || !this.#input.writable) return null;
    if (this.#input.writableLength > MAX_UNREAD_BYTES) {
      if (!this.#unread)
        this.#note(
          `it does not read its input: more than ${MAX_UNREAD_BYTES} bytes wait for it, and nothing more is written`,
        );
      this.#unread = true;
      return null;
    }
    // In steps of two, so that Id + 1 belongs to no other message: a reply may name either number.
    this.#lastId += 2;
    this.#input.write(writeToStitch({ id: this.#lastId, from, node: this.#context.node, channel, data, re }));
    return this.#lastId;
  }

  #hasRead(): void {
    if (!this.#unread) return;
    this.#unread = false;
    this.#context.onRoom();
  }

  #inputClosed(): void {
    if (!this.#open) return;
    this.#open = false;
    this.#noteUnlessExited("it has closed its input: no heartbeat can reach it any more");
  }

  /** Call this when nothing more can be read from the stitch. */
  outputEnded(): void {
    this.#noteUnlessExited("it has closed its output: no answer to a heartbeat can come from it any more");
  }

  #noteUnlessExited(text: string): void {
    setTimeout(() => {
      if (!this.#stopped) this.#note(text);
    }, EXIT_KNOWN_MS).unref();
  }

  /** Handles one item from the stitch's output. @returns a promise while the log cannot take more. */
  take(found: FromStitch): Promise<void> | null {
    switch (found.kind) {
      case "line":
        return this.#context.log("stdout", found.line);
      case "unreadable":
        this.#complain(found.reason);
        return all([
          ...found.lines.map((line) => this.#context.log("stdout", line)),
          this.#context.log("system", `what it wrote could not be understood: ${found.reason}`),
        ]);
      case "message":
        return this.#understand(found.message);
    }
  }

  #understand(message: StitchMessage): Promise<void> | null {
    switch (message.command) {
      case "sync": {
        const number = this.#beats.get(message.id);
        if (number !== undefined) this.#heartbeats.answered(number);
        return null;
      }
      case "logs":
        return all(Array.from(message.lines, (line) => this.#context.log("log", line)));
      case "ack":
        this.#acknowledge(message.id);
        return null;
      case "fail":
        this.#answered(message.id, { kind: "failed", reason: "the stitch said that it failed" });
        return null;
      case "data":
        return this.#said(message);
    }
  }

  #acknowledge(id: number): void {
    const unanswered = this.#unanswered.get(id);
    if (unanswered === undefined) return;
    this.#acknowledged.set(id, unanswered.message);
    for (const old of this.#acknowledged.keys()) {
      if (this.#acknowledged.size <= MOST_UNANSWERED) break;
      this.#acknowledged.delete(old);
    }
    this.#answered(id, { kind: "acked" });
  }

  /** @returns false if no message with this Id waits for an answer. */
  #answered(id: number, how: Delivered): boolean {
    const unanswered = this.#unanswered.get(id);
    if (unanswered === undefined) return false;
    this.#unanswered.delete(id);
    unanswered.settle(how);
    return true;
  }

  /** The stitch answers or sends a message. @returns a promise while that waits for room: read no more output until then. */
  #said({ id, data, channel, toStitch, toGroup }: Extract<StitchMessage, { command: "data" }>): Promise<void> | null {
    if (this.#over) {
      // Messages of the stitch's next run must not come before messages of this run.
      if (!this.#toldUnsent) this.#note("it ended before all that it wrote was read: the rest of it is not sent");
      this.#toldUnsent = true;
      return null;
    }
    const name = channel ?? "";
    const to = toStitch !== null ? { stitch: toStitch } : toGroup !== null ? { group: toGroup } : null;
    // This check is also for replies: a reply must not end its recipient, nor pass for the system in another way.
    if (to === null || name.startsWith("_") || Buffer.byteLength(data) > MAX_DATA_BYTES) {
      this.#complain(
        to === null
          ? "data: neither ToStitchInstanceId nor ToGroupName says whom it is for"
          : name.startsWith("_")
            ? `data: the channel "${name}" is the system's; choose a name without "_" in front`
            : `data: more than ${MAX_DATA_BYTES} bytes`,
      );
      return null;
    }
    for (const each of id === null ? [] : [id, id - 1]) {
      const message = this.#unanswered.get(each)?.message ?? this.#acknowledged.get(each);
      if (message !== undefined && message.from === toStitch) return this.#reply(each, message, name, data);
    }
    const onLost = (error: unknown) => {
      const reason = `what it sent to ${"stitch" in to ? to.stitch : to.group} was not sent: ${errorText(error)}`;
      this.#note(reason);
      this.#complain(reason);
    };
    const { promise: mayGoOn, resolve: goOn } = Promise.withResolvers<void>();
    const sent = this.#context.send(to, name, data, id, { goOn, onLost }).catch(onLost);
    return this.#held.during(Promise.race([sent, mayGoOn]));
  }

  #reply(id: number, message: Message, channel: string, data: string): Promise<void> | null {
    this.#acknowledged.delete(id);
    const again = this.#replied.has(message);
    this.#replied.add(message);
    this.#replying += 1;
    const sent = (again ? Promise.resolve() : this.#context.reply(message, channel, data)).finally(() => {
      this.#replying -= 1;
    });
    this.#answered(id, { kind: "replied", sent });
    return this.#replying < MOST_REPLYING ? null : this.#held.during(sent);
  }

  #complain(reason: string): void {
    const nowMs = this.#nowMs();
    if (nowMs - this.#complainedAtMs < COMPLAIN_EVERY_MS) return;
    this.#complainedAtMs = nowMs;
    this.#send("_error", reason);
  }

  #note(text: string): void {
    void this.#context.log("system", text);
  }
}

function all(waits: readonly (Promise<void> | null)[]): Promise<void> | null {
  const pending = waits.filter((wait) => wait !== null);
  return pending.length === 0 ? null : Promise.all(pending).then(() => undefined);
}
