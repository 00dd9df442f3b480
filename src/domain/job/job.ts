import * as z from "zod";
import { placementOptions } from "../stitch/placement-options.ts";
import { revisionText } from "../names/revision.ts";
import { stepError, type StepOutcome } from "../stitch/stitch.ts";
import { specHash } from "../stitch/spec.ts";

/**
 * Which stitch a step means, as `StitchRecord.born`: the node does nothing to another that has the id by then. Absent:
 * whichever has the id. A create takes it over from the stitch that it moves or restores; absent, it makes a new stitch.
 */
const born = revisionText.optional();

/** How long it must have been well before its start has succeeded; absent: as its spec says (see min-healthy.ts). */
const minHealthyMs = z.number().optional();

/** One act, as it is recorded and as it travels. `stitch` is a full id; null for what concerns the node itself. */
export const step = z.discriminatedUnion("action", [
  z.object({ action: z.literal("ping"), stitch: z.null() }),
  // What only Masters may write: orders to a node.
  z.object({ action: z.enum(["cordon", "uncordon", "drain"]), stitch: z.null() }),
  z.object({
    action: z.literal("relabel"),
    stitch: z.null(),
    labels: z.record(z.string(), z.string().nullable()),
    unset: z.array(z.string()),
  }),
  z.object({
    action: z.literal("create"),
    stitch: z.string(),
    group: z.string(),
    /** Names what it runs: see `Assignment`. */
    specHash,
    start: z.boolean(),
    timeoutMs: z.number(),
    minHealthyMs,
    /** Where it may live: what every later placement of it keeps to. */
    placement: placementOptions.optional(),
    /** The full id it comes from, in a move: until that one is gone, the bare id does not mean this one. */
    movedFrom: z.string().optional(),
    /** It takes back a removal: what the removed one left in its data folder and its log is this one's. */
    restores: z.literal(true).optional(),
    born,
  }),
  z.object({
    action: z.literal("remove"),
    stitch: z.string(),
    timeoutMs: z.number(),
    /** The full id it has gone to, in a move. */
    movedTo: z.string().optional(),
    /** Takes back a move: removes it only where it is arriving from this full id. */
    arrivingFrom: z.string().optional(),
    born,
  }),
  z.object({ action: z.enum(["start", "restart"]), stitch: z.string(), timeoutMs: z.number(), minHealthyMs, born }),
  // `settle` ends a move: the one it came from is gone, so from here on this is the stitch.
  z.object({ action: z.enum(["stop", "settle"]), stitch: z.string(), timeoutMs: z.number(), born }),
]);
export type Step = z.output<typeof step>;
export type StitchStep = Exclude<Step, { stitch: null }>;
export type StepAction = Step["action"];
/** What a Master carries out itself: its orders, and a removal in the place of a node that is away. */
export type MasterStep =
  | Exclude<Extract<Step, { stitch: null }>, { action: "ping" }>
  | Extract<Step, { action: "remove" }>;

/** Every act that a step can be, in the words for one that is done. */
export const PAST = {
  ping: "answered",
  cordon: "cordoned",
  uncordon: "uncordoned",
  drain: "marked",
  relabel: "relabeled",
  create: "created",
  start: "started",
  stop: "stopped",
  restart: "restarted",
  remove: "removed",
  settle: "moved",
} as const satisfies Readonly<Record<StepAction, string>>;
// Its keys, and no others, as the compiler has checked.
export const STEP_ACTIONS = Object.keys(PAST) as StepAction[];

/**
 * One node's part of a job. `runs`: who carries it out; a Master runs what only a Master may write (see `MasterStep`).
 * `refused`: decided when the job was accepted (the node was dead), so it is never dispatched.
 */
export const task = z.object({
  id: z.string(),
  node: z.string(),
  runs: z.enum(["node", "master"]),
  attempt: z.int().min(1),
  wave: z.int().min(0),
  steps: z.array(step).min(1),
  refused: stepError.nullable(),
  /** It ends what the job has begun, so neither a cancel nor the deadline ends it. */
  cleanup: z.literal(true).optional(),
  /** Of what cleans up on a node: when it is given up, instead of the deadline. What a Master cleans up never is. */
  untilMs: z.number().optional(),
});
export type Task = z.output<typeof task>;

/** One step of a chain: who is to do it, and whether the stitch must be green before the next. */
export const link = z.object({
  node: z.string(),
  runs: z.enum(["node", "master"]),
  step,
  green: z.boolean(),
  cleanup: z.boolean(),
});
export type Link = z.output<typeof link>;

/**
 * What a job of many steps does to one stitch, one link after the other.
 *
 *   waiting ──its wave begins──▶ running ──the last link succeeded──▶ ended: succeeded
 *      │                            │ ──a link failed──▶ undoing (where there is something to take back) ──▶ ended
 *      └──the job ends before───────┴──▶ ended: cancelled, expired
 */
export const chain = z.object({
  /** Full id; null for what concerns a node. */
  stitch: z.string().nullable(),
  /** Chains of a wave run together, the next wave when all of them have ended. */
  wave: z.int().min(0),
  links: z.array(link).min(1),
  /** Takes back what the first links did. */
  undo: link.nullable(),
  phase: z.enum(["waiting", "running", "undoing", "ended"]),
  /** The link under way, or the next. */
  at: z.int().min(0),
  /** `<task>.<index>` of the step that carries it out; null where it is yet to be sent. */
  ref: z.string().nullable(),
  /** Its step has succeeded, and it must be green by then. */
  greenByMs: z.number().nullable(),
  /** How it ended, or why it is taken back. */
  status: z.enum(["succeeded", "failed", "superseded", "cancelled", "expired", "unknown"]).nullable(),
  error: stepError.nullable(),
});
export type Chain = z.output<typeof chain>;

/** The part of a job's record that changes: of a command of many steps. Saved by comparing the version. */
export const orchestration = z.object({
  /** Raised with every save; the wave of the tasks that it sends. */
  version: z.int().min(0),
  chains: z.array(chain),
  /** A chain that fails ends the job: what waits is not begun. */
  allOrStop: z.boolean(),
  /** How many stitches the group had before: what a rollback of `group.scale` goes back to. */
  formerCount: z.int().nullable(),
  /** When what cannot be moved is stopped, in a drain. */
  forceAtMs: z.number().nullable(),
  /** What must be well before anything is begun; null where nothing need be, or by now it is. */
  replacement: z
    .object({
      /** The full group that takes over. */
      group: z.string(),
      /** How many stitches of it must be well. */
      atLeast: z.int().min(1),
      /** How long each must have been well, as the command says; null: as its spec does. */
      minHealthyMs: z.number().nullable(),
      /** If they are not by then, nothing is begun. */
      byMs: z.number(),
    })
    .nullable()
    .default(null),
  ended: z.enum(["succeeded", "failed", "partial", "cancelled", "expired"]).nullable(),
});
export type Orchestration = z.output<typeof orchestration>;
export type Replacement = NonNullable<Orchestration["replacement"]>;

/** A job as the Master recorded it, once. How it goes is told by the outcomes beside it. Times: Redis's clock, Unix ms. */
export const jobRecord = z.object({
  id: z.string(),
  command: z.string(),
  target: z.string(),
  /** The command's own options, but for a spec. */
  options: z.record(z.string(), z.unknown()),
  /** The spec that the command came with, and whether that said `reschedule`; null where it came with none. */
  asked: z.object({ specHash, reschedule: z.boolean().nullable() }).nullable(),
  reason: z.string().nullable(),
  by: z.string().nullable(),
  master: z.string(),
  revision: z.int(),
  createdAtMs: z.number(),
  deadlineAtMs: z.number(),
  waitForNode: z.boolean(),
  tasks: z.array(task),
  orchestration: orchestration.nullable().default(null),
  /** The job whose failed parts this repeats; the job that this takes back. */
  retryOf: z.string().nullable().default(null),
  rollbackOf: z.string().nullable().default(null),
});
export type JobRecord = z.output<typeof jobRecord>;

/** A claim: the runner took this attempt of the task up. One is added per incarnation that did. */
export const claim = z.object({
  task: z.string(),
  attempt: z.int(),
  incarnation: z.int(),
  atMs: z.number(),
});
export type Claim = z.output<typeof claim>;

/** What runners wrote beside a job: claims, and outcomes by task, attempt and step. */
export type Outcomes = {
  readonly claims: readonly Claim[];
  /** By `outcomeKey`. */
  readonly steps: ReadonlyMap<string, StepOutcome>;
};

/** Names the outcome of one step: a late outcome of an earlier attempt never answers for the next. */
export const outcomeKey = ({ id, attempt }: Pick<Task, "id" | "attempt">, index: number): string =>
  `${id}.${attempt}.${index}`;

/** The part of a job's hash that Masters write after it was accepted. */
export type JobMarks = {
  readonly cancelledAtMs: number | null;
  /** Set once: the verdict, for good. */
  readonly closed: { readonly status: FinalStatus; readonly atMs: number } | null;
  /** The jobs that repeat this one's failed parts, and take it back. */
  readonly retriedBy?: string;
  readonly rolledBackBy?: string;
};
export type FinalStatus = "succeeded" | "failed" | "partial" | "cancelled" | "expired";

export const closedMark = z.object({
  status: z.enum(["succeeded", "failed", "partial", "cancelled", "expired"]),
  atMs: z.number(),
});

/** A job and everything written beside it, as read in one go. `nowMs`: Redis's time at the read. */
export type JobState = {
  readonly record: JobRecord;
  /** Hash of the body that made it: the same idempotency key must come with the same. */
  readonly bodyHash: string;
  readonly marks: JobMarks;
  /** Task → the attempt that counts, where that is no longer the record's; null where the task is given up. */
  readonly attempts: ReadonlyMap<string, number | null>;
  readonly outcomes: Outcomes;
  readonly nowMs: number;
  /** How much there was of claims, outcomes and raised attempts: what a Master decides on must still be so when it writes. */
  readonly written: number;
};

/** BullMQ's id for one dispatch: every attempt has its own, because a used id never runs again. */
export const dispatchId = (job: string, of: Pick<Task, "id" | "attempt">): string => `${job}.${of.id}.${of.attempt}`;

/** What travels through a node's queue. */
export const dispatch = z.object({
  job: z.string(),
  revision: z.int(),
  deadlineAtMs: z.number(),
  task,
});
export type Dispatch = z.output<typeof dispatch>;
