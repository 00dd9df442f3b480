import type { StitchStep } from "../../../src/domain/job/job.ts";
import type { Revision } from "../../../src/domain/names/revision.ts";
import type { Eligibility, NodeFacts } from "../../../src/domain/node/node.ts";
import type { StepError, StepOutcome, StitchRecord } from "../../../src/domain/stitch/stitch.ts";
import type { Tombstone } from "../../../src/domain/job/tombstone.ts";
import type { HostedStitch } from "./hosted-stitch.ts";
import type { StitchEvent } from "./kept-record.ts";
import type { Specs } from "./specs.ts";
import type { StitchDisk } from "./stitch-disk.ts";
import type { StitchRegistry } from "./stitch-registry.ts";

/** How a removal is recorded. `outcome` is null if no step asked for the removal. */
export type Removal = Pick<Tombstone, "revision" | "movedTo" | "arrivingFrom"> & {
  readonly outcome: StepOutcome | null;
  /** The desired state of the stitch before its removal. */
  readonly desired: StitchRecord["desired"];
};

/** The parts of a node that its steps work with. */
export type StepContext = {
  readonly node: string;
  readonly facts: NodeFacts;
  readonly registry: StitchRegistry;
  readonly disk: StitchDisk;
  readonly specs: Pick<Specs, "find">;
  /** May the node take new stitches, as far as it knows? */
  readonly eligibility: () => Eligibility;
  /** The last inbox entry that this run of the worker, or an earlier one, took. */
  readonly lastMail: () => string;
  /** Is the worker leaving? Then it starts nothing more. */
  readonly isLeaving: () => boolean;
  /** The newest revision of a stitch's steps, including steps that wait. */
  readonly newestRevision: (id: string) => Revision;
  readonly add: (record: StitchRecord) => HostedStitch;
  readonly remove: (stitch: HostedStitch, removal: Removal) => void;
  /** Publishes the current record of a stitch, and an event. @param isNew whether its pointers must be written, too. */
  readonly publish: (stitch: HostedStitch, event: StitchEvent, isNew: boolean) => void;
  readonly nowMs: () => number;
  readonly onError: (error: unknown) => void;
};

/** One step for one stitch. `id` is the stitch's bare id. */
export type StepRequest<Step extends StitchStep = StitchStep> = {
  readonly id: string;
  readonly step: Step;
  readonly revision: Revision;
  readonly outcome: Outcomes;
};

export type CreateStep = Extract<StitchStep, { action: "create" }>;

/** Makes the outcomes of a step that begins now. */
export type Outcomes = {
  readonly done: (changed: boolean) => StepOutcome;
  readonly failed: (error: StepError, changed?: boolean) => StepOutcome;
};

export function outcomesOf(nowMs: () => number): Outcomes {
  const startedAtMs = nowMs();
  const done = (changed: boolean): StepOutcome => ({
    status: "succeeded",
    changed,
    startedAtMs,
    finishedAtMs: nowMs(),
    output: null,
    error: null,
  });
  const failed = (error: StepError, changed = false): StepOutcome => ({
    ...done(changed),
    status: error.code === "superseded" ? "superseded" : "failed",
    error,
  });
  return { done, failed };
}
