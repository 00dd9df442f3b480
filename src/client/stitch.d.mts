export interface ConnectOptions {
  /** How many messages are handled at the same time. @default 1, in the order they came */
  readonly concurrency?: number | undefined;
  /** At the end, running handlers and `onExit` hooks together have this many ms. @default 5000, as the node's `stopGraceMs` */
  readonly exitLimitMs?: number | undefined;
}

export interface Message {
  readonly id: number;
  /** The sender: a stitch, or `api:…` for a client of the API; "" for the system, which takes no reply. */
  readonly from: string;
  /** "" without a channel. */
  readonly channel: string;
  readonly data: string;
  /** The data, parsed. @throws SyntaxError if it is not JSON */
  json(): unknown;
}

/** A stitch by id (`orders-1`: on this node first; `n2:orders-1`: on the node `n2`), or every other member of a group. */
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

/** What the node told the program at the start; "" for what it did not tell. */
export interface Stitch {
  readonly id: string;
  readonly node: string;
  /** `application.component.version` */
  readonly group: string;
  readonly application: string;
  readonly component: string;
  readonly version: string;
  /** The stitch's own folder. It exists, and it stays. Without a node: the working folder. */
  readonly dataDir: string;
  /** The program's own arguments, without what the node added. */
  readonly args: readonly string[];

  /**
   * Sets the handler of messages. Messages that come while there is no handler fail.
   * @param handler if it resolves, the message is acknowledged, and a value other than undefined is the reply (a string as it
   *   is, anything else as JSON). If it throws or rejects, the message fails, and the log says why.
   */
  onMessage(handler: (message: Message) => unknown): void;

  /** Sets a hook that runs before a heartbeat is answered. If it throws or rejects, this one is not, and the log says why. */
  onHeartbeat(hook: () => unknown): void;

  /**
   * Adds a hook that runs before the process exits with 0, because the node asked for it (`_exit`, SIGTERM) or is gone (the
   * end of standard input). Running handlers end first, then the hooks run one after the other, all within `exitLimitMs`.
   * Messages that no handler had begun when the node asked stay unanswered.
   */
  onExit(hook: () => unknown): void;

  /** Writes lines to the stitch's log. Values other than strings are shown as `console.log` shows them. */
  log(...lines: readonly unknown[]): void;

  /**
   * Sends a message. Resolves when standard output has taken it; that does not mean that it is delivered. Await this, so that
   * a fast sender does not fill the memory. Rejects with a TypeError if the message cannot be sent, and with a RangeError if
   * it has more than 1 MiB.
   */
  send(message: OutgoingMessage): Promise<void>;

  /**
   * Sends a question to a stitch and resolves with its reply. The SDK acknowledges the reply, and it overtakes messages that
   * wait for the handler. Rejects if no reply comes within `timeoutMs`, also if the question could not be sent (the log says
   * so) or its handler failed; as `send` if the message cannot be sent; and with 1000 open questions. A late reply is dropped.
   * Do not ask the sender of the message that is being handled: what it sends waits until that message is acknowledged.
   */
  ask(to: string, data: unknown, options?: AskOptions): Promise<Message>;
}

/**
 * Makes this process a stitch. Call it when the program is ready, once per process: from then on heartbeats are answered, and
 * the first answer tells the node that the stitch has come up.
 */
export function connect(options?: ConnectOptions): Stitch;
