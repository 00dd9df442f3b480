import type { JobResource } from "../../contract/job.ts";
import type { ClientContext } from "../calls/client-action.ts";
import { EXIT, exitCodeOfJob } from "../terminal/exit-code.ts";
import { failureLines, optionsText, waveText } from "../terminal/job-text.ts";

/** `stitch jobs JOB`: prints the job's command, progress, steps and related jobs. */
export async function showJob({ client, output, signal }: ClientContext, id: string): Promise<void> {
  const job = await client.job(id, { signal });
  if (output.json) {
    output.body(job);
    return;
  }
  output.facts({
    job: job.id,
    command: job.command,
    target: job.target,
    options: optionsText(job),
    status: job.status,
    progress: [...waveText(job), job.progress.message].join(", "),
    reason: job.reason ?? "",
    by: job.by ?? "",
    master: job.master,
    "created at": job.createdAt,
    "deadline at": job.deadlineAt,
    "finished at": job.finishedAt ?? "",
    ...relatives(job),
  });
  output.print("");
  const columns = ["node", "action", "stitch", "status", "error"].map((key) => ({ key, title: key.toUpperCase() }));
  output.table(stepRows(job), columns, "No steps.");
  const failures = exitCodeOfJob(job) === EXIT.failed ? failureLines(job) : [];
  for (const line of failures) output.note(line);
}

/** The jobs that this job retries or rolls back, and those that retry or roll back this job; only those that exist. */
function relatives(job: JobResource): Record<string, string> {
  const all = {
    "retry of": job.retryOf,
    "retried by": job.retriedBy,
    "rollback of": job.rollbackOf,
    "rolled back by": job.rolledBackBy,
  };
  return Object.fromEntries(Object.entries(all).flatMap(([name, id]) => (id === null ? [] : [[name, id]])));
}

function stepRows(job: JobResource): Record<string, string>[] {
  return job.tasks.flatMap(({ node, steps }) =>
    steps.map((step) => ({
      node,
      action: step.action,
      stitch: step.stitch ?? "",
      status: step.changed === false ? `${step.status}, unchanged` : step.status,
      error: step.error?.code ?? "",
    })),
  );
}
