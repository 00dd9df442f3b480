import type { Message } from "../../../src/domain/message.ts";
import type { StitchSpec } from "../../../src/domain/stitch/spec.ts";
import type { Health, StepError } from "../../../src/domain/stitch/stitch.ts";
import type { SendTo } from "../sending/recipients.ts";

/** The source of a line in a stitch's log: the stitch printed it or logged it, or the node wrote it (`system`). */
export type LogSource = "stdout" | "stderr" | "log" | "system";

/** The callbacks for a message while it is sent. */
export type Told = {
  /** The message waits for room, and the stitch may go on meanwhile. */
  readonly goOn: () => void;
  /** One recipient does not get the message, but others do. */
  readonly onLost: (error: unknown) => void;
};

/** What a stitch is started with. */
export type StartContext = {
  readonly node: string;
  readonly id: string;
  readonly group: string;
  readonly spec: StitchSpec;
  /** The stitch's own folder. It exists. */
  readonly dataDir: string;
  /** Marks every process of this worker, so that its watchdog finds processes that left their process group. */
  readonly session: string;
  /**
   * Writes a line to the stitch's log. `continued`: the next line of this source continues this line.
   * @returns a promise while the log cannot take more: stop reading until it resolves.
   */
  readonly log: (source: LogSource, line: string, continued?: boolean) => Promise<void> | null;
  /**
   * Sends a message for the stitch. Resolves when the message is stored in its recipients' inboxes; if an inbox is full, it
   * waits for a bounded time.
   * @param ref the stitch's own number for the message, to match the answer; null if the stitch gives none.
   * @throws RequestError that says why nobody gets the message.
   */
  readonly send: (to: SendTo, channel: string, data: string, ref: number | null, told: Told) => Promise<void>;
  /** Sends the stitch's reply to a message. Resolves when the reply is on its way or given up. Never rejects. */
  readonly reply: (message: Message, channel: string, data: string) => Promise<void>;
  /** Called when the stitch can take messages again, after `deliver` returned null. */
  readonly onRoom: () => void;
  /** Called at each change of health, once the stitch runs. `failure`: its check is red, and failed with this text. */
  readonly onHealth: (health: Health, failure?: string) => void;
};

/** What a stitch did with a message. */
export type Delivered =
  | { readonly kind: "acked" }
  /** `sent`: resolves when the reply is on its way or given up. Never rejects. */
  | { readonly kind: "replied"; readonly sent: Promise<void> }
  | { readonly kind: "failed"; readonly reason: string };

export type Exit = {
  readonly code: number | null;
  readonly signal: string | null;
  /** The stitch was ended because the node's lease had run out. */
  readonly withLease?: boolean;
  /**
   * Why the stitch was not started: something left from an earlier start cannot be ended, or its spec is not on this node. The
   * start is to be tried again when that is over.
   */
  readonly heldUp?: string;
  /** The stitch could not even be started, so no run has ended. */
  readonly neverRan?: boolean;
  /** The node ended the run because its check was red, and failed with this text. */
  readonly red?: string;
  /** The first and the last lines that the stitch wrote to standard error. */
  readonly stderrTail?: string;
};

/** How a start ended: the stitch runs, it has ended as its restart policy allows, or it did not come up. */
export type Started =
  | { readonly kind: "running" | "finished" }
  | { readonly kind: "failed"; readonly error: StepError };

/** A started stitch, of any adaptor. */
export interface StitchInstance {
  /** null if the stitch is not a process of its own. */
  readonly pid: number | null;
  /** Resolves when the stitch has shown that it runs, or that it does not; not before. Never rejects. */
  readonly started: Promise<Started>;
  /** Resolves when all of the stitch is gone, including its children. Never rejects. */
  readonly exited: Promise<Exit>;
  /**
   * Asks the stitch to end, more firmly after each `graceMs`, and finally kills it; resolves when all of the stitch is gone.
   * May be called again, with less grace. @throws if the stitch is still there after the kill; wait for `exited` then.
   */
  stop(graceMs: number): Promise<Exit>;
  /** Call this when the lease has run out: ends what must not outlive the lease. Missing if the watchdog does that. */
  leaseIsOver?(): void;
  /**
   * Hands a message to the stitch, and resolves with what the stitch did with it, perhaps never. Never rejects. null if the
   * stitch can take no message now; missing if it never takes messages.
   */
  deliver?(message: Message): Promise<Delivered> | null;
  /** What its check has shown, if it has not shown yet that it runs because of that. Missing or null: nothing. */
  readonly notUpBecause?: string | null;
  /** How long in all the stitch could not answer, because its own messages waited for room. Missing: never. */
  readonly heldMs?: number;
}

/** Starts stitches of one kind. Throws nothing: an error comes through `started`. */
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
