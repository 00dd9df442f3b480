import type { Message } from "../../../src/domain/message.ts";
import type { StitchSpec } from "../../../src/domain/stitch/spec.ts";
import type { Health, StepError } from "../../../src/domain/stitch/stitch.ts";
import type { SendTo } from "../sending/recipients.ts";

/** Where a line of a stitch's log came from: what it printed, what it logged, or what its node has to say about it. */
export type LogSource = "stdout" | "stderr" | "log" | "system";

/** What is told of a message while it is sent. */
export type Told = {
  /** It waits for room, and the stitch may go on meanwhile. */
  readonly goOn: () => void;
  /** One of those that it is for does not get it, though others do. */
  readonly onLost: (error: unknown) => void;
};

/** What a stitch is started with. */
export type StartContext = {
  readonly node: string;
  readonly id: string;
  readonly group: string;
  readonly spec: StitchSpec;
  /** A folder of the stitch's own, which exists. */
  readonly dataDir: string;
  /** Marks every process of this worker, so that its watchdog finds those that left their group. */
  readonly session: string;
  /**
   * Takes a line for the stitch's log. `continued`: the next line of this source goes on with it.
   * @returns a promise while the log cannot take more: stop reading until it resolves.
   */
  readonly log: (source: LogSource, line: string, continued?: boolean) => Promise<void> | null;
  /**
   * Sends a message for it. Resolves when it is stored in its recipients' inboxes; where they are full it waits for a bounded
   * time.
   * @param ref its own number for the message, by which it knows the answer; null where it wants none.
   * @throws RequestError that says why nobody gets it.
   */
  readonly send: (to: SendTo, channel: string, data: string, ref: number | null, told: Told) => Promise<void>;
  /** Replies to a message for it. Resolves when the reply is on its way, or has been given up. Never rejects. */
  readonly reply: (message: Message, channel: string, data: string) => Promise<void>;
  /** Told when it can be handed messages again, after `deliver` could not. */
  readonly onRoom: () => void;
  /** Told of each change of health, once it runs. */
  readonly onHealth: (health: Health) => void;
};

/** What a stitch did with a message. */
export type Delivered =
  | { readonly kind: "acked" }
  /** `sent`: settled when the reply is on its way, or has been given up. Never rejects. */
  | { readonly kind: "replied"; readonly sent: Promise<void> }
  | { readonly kind: "failed"; readonly reason: string };

export type Exit = {
  readonly code: number | null;
  readonly signal: string | null;
  /** It was ended because the node's lease had run out. */
  readonly withLease?: boolean;
  /**
   * Why it was not started: something of a former start of it cannot be ended, or its spec is not on this node. It is to be tried
   * again when that is over.
   */
  readonly heldUp?: string;
  /** It could not even be started: no run of it has ended. */
  readonly neverRan?: boolean;
  /** The first and the last lines it wrote to standard error. */
  readonly stderrTail?: string;
};

/** How a start ended: it runs, it has run to its end as its policy allows, or it did not come up. */
export type Started =
  | { readonly kind: "running" | "finished" }
  | { readonly kind: "failed"; readonly error: StepError };

/** A stitch that was started, whatever it is made of. */
export interface StitchInstance {
  /** null where it is no process of its own. */
  readonly pid: number | null;
  /** Settles once, when it has shown that it runs, or that it does not: never before one of them. Never rejects. */
  readonly started: Promise<Started>;
  /** Resolves when all of it is gone, its children included. Never rejects. */
  readonly exited: Promise<Exit>;
  /**
   * Asks it to end, more firmly each `graceMs`, and ends it at last; resolves when all of it is gone. May be called again,
   * with less grace. @throws where it is still there though it was killed; it is waited for on `exited` then.
   */
  stop(graceMs: number): Promise<Exit>;
  /** Ends what must not outlive the lease, which has run out. Missing where the watchdog does that. */
  leaseIsOver?(): void;
  /**
   * Hands a message to it, and resolves with what it did with it; that may never come. Rejects nothing. null where it can
   * take none now; missing where it takes none at all.
   */
  deliver?(message: Message): Promise<Delivered> | null;
  /** How long, in all, it could not answer, because what it sent had to wait for room. Missing: never. */
  readonly heldMs?: number;
}

/** Starts stitches of one kind. Throws nothing: what goes wrong is told by `started`. */
export type Adaptor = (context: StartContext) => StitchInstance;

/** A stitch that could not even be started. */
export function neverStarted(message: string, why: Pick<Exit, "heldUp"> = {}): StitchInstance {
  const exit: Exit = { code: null, signal: null, neverRan: true, ...why };
  return {
    pid: null,
    started: Promise.resolve({ kind: "failed", error: { code: "spawn_failed", message } }),
    exited: Promise.resolve(exit),
    stop: () => Promise.resolve(exit),
  };
}
