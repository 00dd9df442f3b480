import * as z from "zod";
import { STEP_CODES } from "../errors.ts";
import { fullGroupName } from "../names/group.ts";
import { placementOptions } from "./placement-options.ts";
import { stitchId } from "../names/ids.ts";
import { revisionText } from "../names/revision.ts";
import { isAddressable, specHash, type StitchSpec } from "./spec.ts";

export const DESIRED = ["running", "stopped"] as const;
/** `missing` is never published: a reader derives it from the node's death. */
export const STITCH_STATES = ["starting", "running", "stopping", "stopped", "backoff", "failed", "missing"] as const;
export type StitchState = (typeof STITCH_STATES)[number];

export const HEALTHS = ["green", "yellow", "red", "missing"] as const;
export type Health = (typeof HEALTHS)[number];

/** Why a step did not succeed. `stderrTail`: the first and the last lines the program wrote to standard error. */
export const stepError = z.object({
  code: z.enum(STEP_CODES),
  message: z.string(),
  stderrTail: z.string().optional(),
});
export type StepError = z.output<typeof stepError>;

/** How one step ended, as its node wrote it. Times are Unix milliseconds by the node's clock. */
export const stepOutcome = z.object({
  status: z.enum(["succeeded", "failed", "superseded", "cancelled"]),
  changed: z.boolean(),
  startedAtMs: z.number(),
  finishedAtMs: z.number(),
  output: z.unknown().default(null),
  error: stepError.nullable().default(null),
});
export type StepOutcome = z.output<typeof stepOutcome>;

/**
 * A stitch as its node keeps it: on the node's disk and in `{node}:stitches`. Only the node writes it.
 * `revision` is the newest one that the node has begun; `outcome` is the outcome of that revision once there is one, so that
 * the same step delivered again gets the same answer and does not run again. `finished`: the stitch has run to its end, and
 * its policy does not start it again; only a command does. `mailAfter`: the last entry that the node took from its inbox
 * before the stitch was made. A message to a group up to that entry is only for the stitches that existed then.
 *
 * `born`: the revision that created the stitch. It stays the same over restarts, moves and a removal that is taken back.
 * Together with the bare id, it tells a stitch from another one that had the id before, or got it later.
 */
export const stitchRecord = z.object({
  id: stitchId,
  group: fullGroupName,
  /** Names its spec. The text of the spec is in the store of the Masters and on the node's disk. */
  specHash,
  /** From its spec: does it take messages? */
  takesMessages: z.boolean(),
  /** From its spec: how long it must have been well before it counts; null if the spec does not say. */
  minHealthyMs: z.number().nullable(),
  /** Where the stitch may live. Every later placement of the stitch keeps to it. */
  placement: placementOptions.prefault({}),
  /** The full id that the stitch has come from. While the old stitch is still there, the bare id means the old one. */
  movedFrom: z.string().nullable().default(null),
  desired: z.enum(DESIRED),
  state: z.enum(STITCH_STATES),
  health: z.enum(HEALTHS),
  /** Since when it has been green without a break, in this run; null if it is not green. */
  healthySinceMs: z.number().nullable().default(null),
  revision: revisionText,
  born: revisionText,
  outcome: stepOutcome.nullable(),
  finished: z.boolean().default(false),
  restarts: z.int().min(0),
  pid: z.int().nullable(),
  startedAtMs: z.number().nullable(),
  lastExit: z.object({ code: z.int().nullable(), signal: z.string().nullable(), atMs: z.number() }).nullable(),
  observedAtMs: z.number(),
  mailAfter: z.string().nullable().default(null),
});
export type StitchRecord = z.output<typeof stitchRecord>;

/** The parts of a spec that the record repeats, for readers that have not read the spec. */
export const toldOf = (spec: StitchSpec): Pick<StitchRecord, "takesMessages" | "minHealthyMs"> => ({
  takesMessages: isAddressable(spec),
  minHealthyMs: spec.minHealthyMs ?? null,
});

/** What a stitch's whole process tree uses, and whether it keeps data, as last measured. 100 percent is one core. */
export const stitchUsage = z.object({
  cpuPercent: z.number().nullable(),
  memoryBytes: z.number(),
  /** Is there anything in its data folder? */
  hasData: z.boolean().default(false),
});
export type StitchUsage = z.output<typeof stitchUsage>;

/** What is left of a removed stitch, for 24 h: the revision that removed it, and its outcome. */
export const removedRecord = z.object({
  id: stitchId,
  group: fullGroupName,
  revision: revisionText,
  born: revisionText,
  outcome: stepOutcome.nullable(),
  removedAtMs: z.number(),
  /** What the stitch was; null in removed records that others have written. */
  was: z
    .object({ takesMessages: z.boolean(), desired: z.enum(DESIRED) })
    .nullable()
    .default(null),
  /** The full id that the stitch has moved to: its messages follow it there. null if the stitch is gone for good. */
  movedTo: z.string().nullable().default(null),
  /** The stitch was only arriving, and its move was taken back: the stitch at `movedTo` was there all the time. */
  takenBack: z.literal(true).optional(),
});
export type RemovedRecord = z.output<typeof removedRecord>;

/**
 * How long the removed record, data folder and logs of a removed stitch are kept: as long as an idempotency key, so that no
 * replay outlives them.
 */
export const REMOVED_KEPT_MS = 86_400_000;
