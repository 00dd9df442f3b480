import type { JobResource } from "../../contract/job.ts";

/** The exit codes of the process (cli.md). */
export const EXIT = {
  done: 0,
  /** Usage, HTTP or connection error. */
  error: 1,
  /** Could not be placed; also for a plan. */
  notPlaced: 2,
  /** Failed, partial, cancelled, expired, undelivered. */
  failed: 3,
  /** Still running when the wait ended. */
  stillRunning: 5,
  /** Ctrl-C: 128 + SIGINT. */
  interrupted: 130,
} as const;

export type ExitCode = (typeof EXIT)[keyof typeof EXIT];

export function exitCodeOfJob(job: Pick<JobResource, "status" | "finishedAt">): ExitCode {
  if (job.finishedAt === null) return EXIT.stillRunning;
  return job.status === "succeeded" ? EXIT.done : EXIT.failed;
}

const UNDELIVERED = ["stitch_failed", "reply_timeout", "inbox_full"];

/** Does this error of the API say that a message was not delivered, or not in time? */
export const isUndelivered = (code: string): boolean => UNDELIVERED.includes(code);
