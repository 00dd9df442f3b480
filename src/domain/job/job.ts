import * as z from "zod";
import { electionId, type JobElection } from "../election.ts";
import { placementOptions } from "../stitch/placement-options.ts";
import { revisionText } from "../names/revision.ts";
import { stepError, type StepOutcome } from "../stitch/stitch.ts";
import { specHash } from "../stitch/spec.ts";

/**
 * Which stitch a step means, as `StitchRecord.born`: the node does nothing to another stitch that has the id by then.
 * Absent: any stitch with the id. A create takes `born` from the stitch that it moves or restores; absent, it makes a new
 * stitch.
 */
const born = revisionText.optional();

/** How long the stitch must have been well before its start has succeeded; absent: as its spec says (see min-healthy.ts). */
const minHealthyMs = z.number().optional();

/** One act, as it is recorded and sent. `stitch` is a full id; null for an act on the node itself. */
export const step = z.discriminatedUnion("action", [
  z.object({ action: z.literal("ping"), stitch: z.null() }),
  // Orders about a node: only Masters may write them.
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
    /** Where the stitch may live. Every later placement of the stitch keeps to it. */
    placement: placementOptions.optional(),
    /** In a move: the full id it comes from. Until that stitch is gone, the bare id does not mean this one. */
    movedFrom: z.string().optional(),
    /** The create takes back a removal: the data folder and the log of the removed stitch belong to this one. */
    restores: z.literal(true).optional(),
    born,
  }),
  z.object({
    action: z.literal("remove"),
    stitch: z.string(),
    timeoutMs: z.number(),
    /** In a move: the full id that the stitch has moved to. */
    movedTo: z.string().optional(),
    /** Takes back a move: removes the stitch only if it is arriving from this full id. */
    arrivingFrom: z.string().optional(),
    born,
  }),
  z.object({ action: z.enum(["start", "restart"]), stitch: z.string(), timeoutMs: z.number(), minHealthyMs, born }),
  // `settle` ends a move: the old stitch is gone, so from now on the bare id means this one.
  z.object({ action: z.enum(["stop", "settle"]), stitch: z.string(), timeoutMs: z.number(), born }),
]);
export type Step = z.output<typeof step>;
export type StitchStep = Exclude<Step, { stitch: null }>;
export type StepAction = Step["action"];
/** The steps that a Master carries out itself: its orders, and a removal instead of a node that is away. */
export type MasterStep =
  | Exclude<Extract<Step, { stitch: null }>, { action: "ping" }>
  | Extract<Step, { action: "remove" }>;

/** Every action of a step, with the word for a step that is done. */
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
// Exactly the keys of `PAST`, as the compiler has checked.
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
  /** The task ends what the job has begun, so neither a cancel nor the deadline ends the task. */
  cleanup: z.literal(true).optional(),
  /** For a cleanup task of a node: when it is given up, instead of the deadline. A Master's cleanup is never given up. */
  untilMs: z.number().optional(),
});
export type Task = z.output<typeof task>;

/** One step of a chain: who carries it out, and whether the stitch must be green before the next step. */
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
  /** Full id; null if the chain concerns a node. */
  stitch: z.string().nullable(),
  /** The chains of a wave run together. The next wave begins when all of them have ended. */
  wave: z.int().min(0),
  links: z.array(link).min(1),
  /** Takes back what the first links did. */
  undo: link.nullable(),
  phase: z.enum(["waiting", "running", "undoing", "ended"]),
  /** The link under way, or the next. */
  at: z.int().min(0),
  /** `<task>.<index>` of the step that carries out the link; null if the link is not sent yet. */
  ref: z.string().nullable(),
  /** The step has succeeded, and the stitch must be green by then. */
  greenByMs: z.number().nullable(),
  /** How the chain ended, or why it is taken back. */
  status: z.enum(["succeeded", "failed", "superseded", "cancelled", "expired", "unknown"]).nullable(),
  error: stepError.nullable(),
});
export type Chain = z.output<typeof chain>;

/** The part of a job's record that changes, for a command of many steps. It is saved only if the version is still the same. */
export const orchestration = z.object({
  /** Raised with every save. The tasks that are sent next have it as their wave. */
  version: z.int().min(0),
  chains: z.array(chain),
  /** A chain that fails ends the job: waiting chains are not begun. */
  allOrStop: z.boolean(),
  /** How many stitches the group had before: a rollback of `group.scale` goes back to this number. */
  formerCount: z.int().nullable(),
  /** In a drain: when stitches that cannot be moved are stopped. */
  forceAtMs: z.number().nullable(),
  /** What must be well before anything begins; null if nothing must be, or it already is. */
  replacement: z
    .object({
      /** The full group that takes over. */
      group: z.string(),
      /** How many stitches of it must be well. */
      atLeast: z.int().min(1),
      /** How long each must have been well, as the command says; null: as its spec says. */
      minHealthyMs: z.number().nullable(),
      /** If they are not well by then, nothing is begun. */
      byMs: z.number(),
    })
    .nullable()
    .default(null),
  ended: z.enum(["succeeded", "failed", "partial", "cancelled", "expired"]).nullable(),
});
export type Orchestration = z.output<typeof orchestration>;
export type Replacement = NonNullable<Orchestration["replacement"]>;

/** A job as the Master recorded it, once. The outcomes beside it tell how it goes. Times: Redis's clock, Unix ms. */
export const jobRecord = z.object({
  id: z.string(),
  command: z.string(),
  target: z.string(),
  /** The command's own options, without a spec. */
  options: z.record(z.string(), z.unknown()),
  /** The spec that the command came with, and its `reschedule` (null: not given); null if the command came with no spec. */
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
  /** `retryOf`: the job whose failed parts this job repeats. `rollbackOf`: the job that this job takes back. */
  retryOf: z.string().nullable().default(null),
  rollbackOf: z.string().nullable().default(null),
});
export type JobRecord = z.output<typeof jobRecord>;

/** A claim: the runner has taken this attempt of the task. Each incarnation that takes it adds one. */
export const claim = z.object({
  task: z.string(),
  attempt: z.int(),
  incarnation: z.int(),
  atMs: z.number(),
});
export type Claim = z.output<typeof claim>;

/** What runners wrote beside a job: claims, and outcomes by task, attempt and step. */
export type Outcomes = {
  /** Without those after which the runner found that another leader had been elected: it has applied nothing then. */
  readonly claims: readonly Claim[];
  /** The attempts (`attemptKey`) that a runner has claimed and not applied for that reason. */
  readonly stale: ReadonlySet<string>;
  /** By `outcomeKey`. */
  readonly steps: ReadonlyMap<string, StepOutcome>;
};

/** Names one attempt of a task. */
export const attemptKey = ({ id, attempt }: Pick<Task, "id" | "attempt">): string => `${id}.${attempt}`;

/** Names the outcome of one step: a late outcome of an earlier attempt never counts for the next attempt. */
export const outcomeKey = ({ id, attempt }: Pick<Task, "id" | "attempt">, index: number): string =>
  `${id}.${attempt}.${index}`;

/** The part of a job's hash that Masters write after it was accepted. */
export type JobMarks = {
  readonly cancelledAtMs: number | null;
  /** The final verdict. It is set once. */
  readonly closed: { readonly status: FinalStatus; readonly atMs: number } | null;
  /** `retriedBy`: the job that repeats this job's failed parts. `rolledBackBy`: the job that takes this job back. */
  readonly retriedBy?: string;
  readonly rolledBackBy?: string;
};
export type FinalStatus = "succeeded" | "failed" | "partial" | "cancelled" | "expired";

export const closedMark = z.object({
  status: z.enum(["succeeded", "failed", "partial", "cancelled", "expired"]),
  atMs: z.number(),
});

/** A job and everything written beside it, read at one time. `nowMs`: Redis's time at the read. */
export type JobState = {
  readonly record: JobRecord;
  /** Hash of the body that made the job: the same idempotency key must come with the same body. */
  readonly bodyHash: string;
  readonly marks: JobMarks;
  /** The election under which it was last decided; null if no leader ever has. */
  readonly election: JobElection | null;
  /** Task → the attempt that counts, if it is no longer the record's; null if the task is given up. */
  readonly attempts: ReadonlyMap<string, number | null>;
  readonly outcomes: Outcomes;
  readonly nowMs: number;
  /** The number of claims, outcomes and raised attempts at the read: it must be the same when a Master writes its decision. */
  readonly written: number;
};

/** BullMQ's id for one dispatch: every attempt has its own, because a used id never runs again. */
export const dispatchId = (job: string, of: Pick<Task, "id" | "attempt">): string => `${job}.${of.id}.${of.attempt}`;

/** The content of an entry in a node's queue. */
export const dispatch = z.object({
  job: z.string(),
  revision: z.int(),
  deadlineAtMs: z.number(),
  task,
  /** Id of the election under which the task was sent: it is applied only while that is the current one. Absent: without a leader. */
  election: electionId.exactOptional(),
});
export type Dispatch = z.output<typeof dispatch>;
