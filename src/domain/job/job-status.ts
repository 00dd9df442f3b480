/** The statuses of a job: the last five are final. */
export const JOB_STATUSES = [
  "pending",
  "running",
  "cancelling",
  "succeeded",
  "failed",
  "partial",
  "cancelled",
  "expired",
] as const;
export type JobStatus = (typeof JOB_STATUSES)[number];

/** The statuses of a step, and of a task. */
export const STEP_STATUSES = [
  "pending",
  "running",
  "succeeded",
  "failed",
  "superseded",
  "cancelled",
  "expired",
  "unknown",
] as const;
export type StepStatus = (typeof STEP_STATUSES)[number];
