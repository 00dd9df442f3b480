import * as z from "zod";
import { stepError, type StepOutcome } from "./stitch.ts";
import { stitchSpec } from "./spec.ts";

export const NODE_ACTIONS = ["ping"] as const;
export const MASTER_ACTIONS = ["cordon", "uncordon"] as const;
export const STITCH_ACTIONS = ["create", "start", "stop", "restart", "remove"] as const;

/** One act, as it is recorded and as it travels. `stitch` is a full id; null for what concerns the node itself. */
export const step = z.discriminatedUnion("action", [
  z.object({ action: z.enum([...NODE_ACTIONS, ...MASTER_ACTIONS]), stitch: z.null() }),
  z.object({
    action: z.literal("create"),
    stitch: z.string(),
    group: z.string(),
    spec: stitchSpec,
    start: z.boolean(),
    timeoutMs: z.number(),
  }),
  z.object({ action: z.enum(["start", "stop", "restart", "remove"]), stitch: z.string(), timeoutMs: z.number() }),
]);
export type Step = z.output<typeof step>;
export type StitchStep = Exclude<Step, { stitch: null }>;

/**
 * One node's part of a job. `runs`: who carries it out; a Master runs what only a Master may write (eligibility).
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
});
export type Task = z.output<typeof task>;

/** A job as the Master recorded it, once. How it goes is told by the outcomes beside it. Times: Redis's clock, Unix ms. */
export const jobRecord = z.object({
  id: z.string(),
  command: z.string(),
  target: z.string(),
  options: z.record(z.string(), z.unknown()),
  reason: z.string().nullable(),
  by: z.string().nullable(),
  master: z.string(),
  revision: z.int(),
  createdAtMs: z.number(),
  deadlineAtMs: z.number(),
  waitForNode: z.boolean(),
  tasks: z.array(task).min(1),
});
export type JobRecord = z.output<typeof jobRecord>;

/** A claim: the runner took the task up in time. One is added per incarnation that did. */
export const claim = z.object({
  task: z.string(),
  attempt: z.int(),
  incarnation: z.int(),
  atMs: z.number(),
});
export type Claim = z.output<typeof claim>;

/** What runners wrote beside a job: claims, and outcomes by `task.step`. */
export type Outcomes = {
  readonly claims: readonly Claim[];
  /** Key `<task>.<index of the step>`. */
  readonly steps: ReadonlyMap<string, StepOutcome>;
};

/** The part of a job's hash that Masters write after it was accepted. */
export type JobMarks = {
  readonly cancelledAtMs: number | null;
  /** Set once: the verdict, for good. */
  readonly closed: { readonly status: FinalStatus; readonly atMs: number } | null;
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
  readonly outcomes: Outcomes;
  readonly nowMs: number;
  /** How many claims and outcomes there were: what a Master decides on must still be so when it writes. */
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
