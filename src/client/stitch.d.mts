export interface ConnectOptions {
  /** How many messages are handled at the same time. @default 1, in the order they came */
  readonly concurrency?: number | undefined;
  /** At the end, running handlers and `onExit` hooks have this long together. @default 5000, as the node's `stopGraceMs` */
  readonly exitLimitMs?: number | undefined;
}

export interface Message {
  readonly id: number;
  /** Who sent it: a stitch, or `api:…` for a client of the API; "" for the system, which takes no reply. */
  readonly from: string;
  /** "" without one. */
  readonly channel: string;
  readonly data: string;
  /** The data, parsed. @throws SyntaxError where it is not JSON */
  json(): unknown;
}

/** A stitch by id (`orders-1`: on this node first; `n2:orders-1`: on that one), or every other member of a group. */
export type Recipient =
  | { readonly to: string; readonly group?: undefined }
  | { readonly group: string; readonly to?: undefined };

export type OutgoingMessage = Recipient & {
  readonly channel?: string | undefined;
  /** A string is sent as it is, anything else as JSON. */
  readonly data: unknown;
};

export interface AskOptions {
  readonly channel?: string | undefined;
  /** @default 5000 */
  readonly timeoutMs?: number | undefined;
}

/** What the node said at the start; "" for what it did not say. */
export interface Stitch {
  readonly id: string;
  readonly node: string;
  /** `application.component.version` */
  readonly group: string;
  readonly application: string;
  readonly component: string;
  readonly version: string;
  /** A folder of the stitch's own, which exists and stays. Without a node: the working folder. */
  readonly dataDir: string;
  /** The program's own arguments, without what the node added. */
  readonly args: readonly string[];

  /**
   * Sets what handles messages. Messages that come while there is none fail.
   * @param handler resolves: the message is acknowledged, with a value other than undefined as the reply (a string as it is,
   *   anything else as JSON). Throws or rejects: the message fails, and the log says why.
   */
  onMessage(handler: (message: Message) => unknown): void;

  /** Sets what is asked before a heartbeat is answered. Where it throws or rejects, this one is not, and the log says why. */
  onHeartbeat(hook: () => unknown): void;

  /**
   * Adds what is done before the process exits with 0, because the node asked for it (`_exit`, SIGTERM) or is gone (the end
   * of standard input). The handlers that run are waited for first, then the hooks run one after the other, all within
   * `exitLimitMs`. Messages that were not begun when the node asked stay unanswered.
   */
  onExit(hook: () => unknown): void;

  /** Writes lines to the stitch's log. What is no string is shown as `console.log` would. */
  log(...lines: readonly unknown[]): void;

  /**
   * Sends a message. Resolves when standard output has taken it, which is not delivery yet; waiting for it keeps a fast sender
   * from filling the memory. Rejects with a TypeError for what cannot be sent, with a RangeError for more than 1 MiB.
   */
  send(message: OutgoingMessage): Promise<void>;

  /**
   * Sends a question to a stitch and resolves with its reply, which is acknowledged by itself and passes what waits for the
   * handler. Rejects where none comes within `timeoutMs`, also because the question could not be sent or its handler failed
   * (the log says the former); as `send` for what cannot be sent; and with 1000 questions open. A reply that comes later is
   * dropped. Do not ask the sender of the message that is being handled: what it sends waits until that is acknowledged.
   */
  ask(to: string, data: unknown, options?: AskOptions): Promise<Message>;
}

/**
 * Makes this process a stitch. From here on heartbeats are answered, and the first one answered means to the node that the
 * stitch has come up: call it when the program is ready. Once for a process.
 */
export function connect(options?: ConnectOptions): Stitch;
