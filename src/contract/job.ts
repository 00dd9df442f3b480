import * as z from "zod";
import { STEP_CODES } from "../domain/errors.ts";
import { STEP_ACTIONS } from "../domain/job/job.ts";
import { JOB_STATUSES, STEP_STATUSES } from "../domain/job/job-status.ts";
import { counts } from "./counts.ts";
import type { Resource } from "./resource.ts";
import { time } from "./time.ts";

/** Why a step or a job did not succeed. */
export const failureResource = z.object({
  code: z.enum(STEP_CODES),
  message: z.string(),
  /** The first and the last lines the process wrote to stderr. */
  stderrTail: z.string().exactOptional(),
});
export type FailureResource = Resource<typeof failureResource>;

/** One act on one stitch, or on the node itself. */
export const stepResource = z.object({
  action: z.enum(STEP_ACTIONS),
  /** Full id; null if the step is about the node itself. */
  stitch: z.string().nullable(),
  status: z.enum(STEP_STATUSES),
  /**
   * Did the step change anything? A failed step may have. false: the stitch or node already was as asked, or nothing was done.
   * null if the step has no outcome.
   */
  changed: z.boolean().nullable(),
  startedAt: time.nullable(),
  finishedAt: time.nullable(),
  output: z.unknown(),
  error: failureResource.nullable(),
});
export type StepResource = Resource<typeof stepResource>;

/** A row of `GET /v1/jobs/{id}/steps`: the step and where it belongs. */
export const listedStepResource = stepResource.extend({ task: z.string(), node: z.string() });
export type ListedStepResource = Resource<typeof listedStepResource>;

/** One node's part of a job. */
export const taskResource = z.object({
  id: z.string(),
  node: z.string(),
  status: z.enum(STEP_STATUSES),
  attempt: z.int(),
  steps: z.array(stepResource),
});
export type TaskResource = Resource<typeof taskResource>;

/** A row of `GET /v1/jobs`: a job without its tasks. */
export const listedJobResource = z.object({
  id: z.string(),
  command: z.string(),
  target: z.string(),
  /** The command's own options, defaults included. */
  options: z.record(z.string(), z.unknown()),
  reason: z.string().nullable(),
  by: z.string().nullable(),
  /** The Master that accepted it. */
  master: z.string(),
  status: z.enum(JOB_STATUSES),
  revision: z.string(),
  createdAt: time,
  deadlineAt: time,
  /** null until the job has ended. */
  finishedAt: time.nullable(),
  /** Counts of steps. */
  counts: counts(["total", ...STEP_STATUSES]),
  progress: z.object({ wave: z.int(), waves: z.int(), message: z.string() }),
  /** Full ids created or touched. */
  stitches: z.array(z.string()).max(1000),
  error: failureResource.nullable(),
  retryOf: z.string().nullable(),
  retriedBy: z.string().nullable(),
  rollbackOf: z.string().nullable(),
  rolledBackBy: z.string().nullable(),
  causedBy: z.string().nullable(),
});
export type ListedJobResource = Resource<typeof listedJobResource>;

export const jobResource = listedJobResource.extend({
  /** At most 1000 steps, failures first. */
  tasks: z.array(taskResource),
  /** true if steps were left out; all are under `/steps`. */
  truncated: z.literal(true).exactOptional(),
});
export type JobResource = Resource<typeof jobResource>;
