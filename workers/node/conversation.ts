import type { Writable } from "node:stream";
import type { StartContext } from "./adaptors/adaptor.ts";
import { Heartbeats } from "./heartbeats.ts";
import { type FromStitch, type StitchMessage, writeToStitch } from "./process-v1.ts";

/** What a stitch has not read yet may take this much of the worker's memory; then nothing more is written to it. */
const MAX_UNREAD_BYTES = 256 * 1024;
/** What cannot be understood is answered this often at most: two who do not understand each other must not shout. */
const COMPLAIN_EVERY_MS = 1000;

/** The system's part of the protocol (process-v1.md): heartbeats, `_exit`, `_error`, logs. */
export class Conversation {
  readonly #context: StartContext;
  readonly #input: Writable;
  readonly #heartbeats: Heartbeats;
  readonly #nowMs: () => number;
  /** Heartbeat number by the Id it was sent with. */
  readonly #beats = new Map<number, number>();
  #lastId = 0;
  #open = true;
  #toldUnread = false;
  #complainedAtMs = Number.NEGATIVE_INFINITY;

  constructor(context: StartContext, input: Writable, nowMs: () => number) {
    this.#context = context;
    this.#input = input;
    this.#nowMs = nowMs;
    this.#heartbeats = new Heartbeats({
      everyMs: context.spec.heartbeatMs,
      send: (number) => this.#beat(number),
      onHealth: context.onHealth,
    });
    input.on("error", () => this.#inputClosed());
    input.on("close", () => this.#inputClosed());
  }

  /** Resolves when it has answered for the first time. */
  get heard(): Promise<void> {
    return this.#heartbeats.heard;
  }

  start(): void {
    this.#heartbeats.start();
  }

  /** Nothing more is sent. Safe to repeat. */
  stop(): void {
    this.#open = false;
    this.#heartbeats.stop();
  }

  /** Asks it to finish and exit. */
  exit(): void {
    this.#send("_exit", "");
    this.stop();
  }

  #beat(number: number): void {
    const id = this.#send("_heartbeat", "");
    if (id === null) return;
    this.#beats.set(id, number);
    // Older ones mean nothing once a later one is answered, and a stitch that answers none is not remembered for ever.
    for (const old of this.#beats.keys()) {
      if (this.#beats.size <= 16) break;
      this.#beats.delete(old);
    }
  }

  /** @returns the message's Id, or null where it cannot be sent. */
  #send(channel: string, data: string): number | null {
    if (!this.#open || !this.#input.writable) return null;
    if (this.#input.writableLength > MAX_UNREAD_BYTES) {
      if (!this.#toldUnread)
        this.#note(`it does not read its input: ${MAX_UNREAD_BYTES} bytes wait for it, and nothing more is written`);
      this.#toldUnread = true;
      return null;
    }
    this.#toldUnread = false;
    // In steps of two, so that Id + 1 is nobody else's: a reply may come under either.
    this.#lastId += 2;
    this.#input.write(writeToStitch({ id: this.#lastId, from: "", node: this.#context.node, channel, data }));
    return this.#lastId;
  }

  #inputClosed(): void {
    if (!this.#open) return;
    this.#open = false;
    this.#note("it has closed its input: no heartbeat can reach it any more");
  }

  /** Takes what its output was found to hold. @returns a promise while the log cannot take more. */
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
        return all(message.lines.map((line) => this.#context.log("log", line)));
      default:
        this.#complain(`this node does not carry messages yet: "${message.command}" has no effect`);
        return null;
    }
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
