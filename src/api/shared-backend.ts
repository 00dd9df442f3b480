import { orLate } from "../bounded-wait.ts";
import { closeBackend, type OpenBackend } from "./backend.ts";

/** A platform may stop the process between requests. After this long without one, the connection may be gone without a word. */
const IDLE_MS = 30_000;
/** How long it may take to show that it is not. */
const PING_MS = 500;
const SETTLE_MS = 1000;

/**
 * One backend for all requests of a process: opened when a request needs it, and anew when it could not be or has lost its connection.
 * It does not wait until the connection is back by itself: in a process that was stopped, that may be too late for a request.
 */
export class SharedBackend {
  readonly #connect: () => Promise<OpenBackend>;
  readonly #nowMs: () => number;
  #opening: Promise<OpenBackend> | null = null;
  #usedAtMs = 0;

  /** @param nowMs a clock that also runs while the process is stopped. */
  constructor(connect: () => Promise<OpenBackend>, nowMs: () => number) {
    this.#connect = connect;
    this.#nowMs = nowMs;
  }

  /** @throws what `connect` throws; the next call tries again. */
  async open(): Promise<OpenBackend> {
    const nowMs = this.#nowMs();
    const wasIdle = nowMs - this.#usedAtMs > IDLE_MS;
    this.#usedAtMs = nowMs;
    if (wasIdle && this.#opening !== null) this.#opening = this.#checked(this.#opening);
    const opening = (this.#opening ??= this.#connect());
    const opened = await this.#orForget(opening);
    if (opened.isConnected()) return opened;
    // The first request that sees it; the others take what that one opens.
    if (this.#opening === opening) {
      opened.close();
      this.#opening = null;
    }
    return this.#orForget((this.#opening ??= this.#connect()));
  }

  async #orForget(opening: Promise<OpenBackend>): Promise<OpenBackend> {
    try {
      return await opening;
    } catch (error) {
      if (this.#opening === opening) this.#opening = null;
      throw error;
    }
  }

  /** The next `open` asks first whether the connection still answers: a request has just got no answer over it. */
  doubt(): void {
    this.#usedAtMs = 0;
  }

  /** Resolves when the work is done that goes on after answers. */
  async settled(): Promise<void> {
    await this.#opening?.then(
      (opened) => opened.settled(),
      () => undefined,
    );
  }

  /** Closes the connections. Safe to repeat; a later `open` opens new ones. */
  async close(): Promise<void> {
    const opening = this.#opening;
    this.#opening = null;
    await opening?.then(
      (opened) => closeBackend(opened, SETTLE_MS),
      () => undefined,
    );
  }

  /** The same backend if it still answers, else a new one. */
  async #checked(opening: Promise<OpenBackend>): Promise<OpenBackend> {
    const opened = await opening;
    const answer = orLate(
      opened.ping().then(
        () => true,
        () => false,
      ),
      PING_MS,
    );
    if ((await answer) === true) return opened;
    opened.close();
    return this.#connect();
  }
}
