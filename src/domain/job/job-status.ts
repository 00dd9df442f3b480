/** How a job goes: the last five are final. */
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

/** How a step goes, and a task. */
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
