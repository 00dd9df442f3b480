import type { StitchSpec } from "../../../src/domain/spec.ts";
import type { StepError } from "../../../src/domain/stitch.ts";

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
  /** Takes a line for the stitch's log. @returns a promise while the log cannot take more: stop reading until it resolves. */
  log(source: "stdout" | "stderr" | "system", line: string): Promise<void> | null;
};

export type Exit = { readonly code: number | null; readonly signal: string | null };

/** How a start ended: it runs, it has run to its end as its policy allows, or it did not come up. */
export type Started =
  | { readonly kind: "running" | "finished" }
  | { readonly kind: "failed"; readonly error: StepError };

/** A stitch that was started, whatever it is made of. */
export interface StitchInstance {
  /** null where it is no process of its own. */
  readonly pid: number | null;
  /** Settles once, within the time its kind of stitch takes to show that it runs. Never rejects. */
  readonly started: Promise<Started>;
  /** Resolves when all of it is gone, its children included. Never rejects. */
  readonly exited: Promise<Exit>;
  /** Asks it to end, then ends it `graceMs` later; resolves when all of it is gone. May be called again, with less grace. */
  stop(graceMs: number): Promise<Exit>;
}

/** Starts stitches of one kind. Throws nothing: what goes wrong is told by `started`. */
export type Adaptor = (context: StartContext) => StitchInstance;
