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
 * A stitch as its node keeps it: on the node's disk and in `{node}:stitches`. The node alone writes it.
 * `revision` is the newest one taken up; `outcome` is that one's result once there is one, so that the same step delivered
 * again gets the same answer instead of being run again. `finished`: it has run to its end, and its policy does not start it
 * again; only a command does. `mailAfter`: the last entry of its node's inbox that was taken before it was made; what was
 * sent to its groups up to there is for those who were there.
 *
 * `born`: the revision that created it. It stays the same over restarts, moves and a removal that is taken back, so together
 * with the bare id it tells a stitch from another that had its id before, or has it since.
 */
export const stitchRecord = z.object({
  id: stitchId,
  group: fullGroupName,
  /** Names what it runs. The text is in the store of the Masters and on the node's disk. */
  specHash,
  /** By its spec: does it take messages? */
  takesMessages: z.boolean(),
  /** By its spec: how long it must have been well before it counts; null where that says nothing. */
  minHealthyMs: z.number().nullable(),
  /** Where it may live: what every later placement of it keeps to. */
  placement: placementOptions.prefault({}),
  /** It has come from this full id, and that one may still be there: then the bare id means that one. */
  movedFrom: z.string().nullable().default(null),
  desired: z.enum(DESIRED),
  state: z.enum(STITCH_STATES),
  health: z.enum(HEALTHS),
  /** Since when it has been green without a break, in this run; null where it is not. */
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

/** What a record tells of its spec, for those who have not read that. */
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
  /** What it was; null in tombstones that others have written. */
  was: z
    .object({ takesMessages: z.boolean(), desired: z.enum(DESIRED) })
    .nullable()
    .default(null),
  /** Where it went, as a full id: its messages go after it. null where it is gone for good. */
  movedTo: z.string().nullable().default(null),
  /** It had only arrived, and went back to `movedTo`: the one there was there all the while. */
  takenBack: z.literal(true).optional(),
});
export type RemovedRecord = z.output<typeof removedRecord>;

/** How long a removed stitch's tombstone, data folder and logs are kept: as long as an idempotency key, so that no replay outlives them. */
export const REMOVED_KEPT_MS = 86_400_000;
