import type { Command } from "commander";
import type { JobResource, ListedJobResource } from "../domain/resources.ts";
import { addClientOptions, type ClientContext, clientAction } from "./client-action.ts";
import { timeoutOption } from "./command-options.ts";
import { EXIT, exitCodeOfJob } from "./exit-code.ts";
import { followJob } from "./follow-job.ts";
import { failureLines } from "./job-text.ts";
import { parseLimit } from "./option-values.ts";
import { withRetries } from "./retry.ts";
import { printable } from "./table.ts";

type ListFlags = {
  readonly status?: string;
  readonly target?: string;
  readonly command?: string;
  readonly limit: number;
};
type WaitFlags = { readonly timeout: number; readonly detach?: true };

/** `stitch jobs [JOB]`, `jobs watch JOB`, `jobs cancel JOB`. */
export function registerJobs(program: Command): void {
  const jobs = program
    .command("jobs [job]")
    .description("list the jobs, newest first, or show one")
    .option("--status <status>", "only those with this status")
    .option("--target <target>", "only those of this target")
    .option("--command <command>", "only those of this command, such as stitch.stop")
    .option("--limit <n>", "how many to list", parseLimit, 20);
  addClientOptions(jobs).action(
    clientAction(async (context, id: string | undefined, flags: ListFlags) => {
      if (id === undefined) await list(context, flags);
      else await showOne(context, id);
      return EXIT.done;
    }),
  );

  addWaitOptions(jobs.command("watch <job>").description("follow a job until it ends; the exit code tells how")).action(
    clientAction(async (context, id: string, { timeout }: WaitFlags) => {
      const { client, signal } = context;
      const job = await withRetries(() => client.job(id, { signal }), signal);
      return await followJob(context, job, timeout, { print: (ended) => printStitches(context, ended) });
    }),
  );

  const cancel = jobs.command("cancel <job>").description("cancel the parts of a job that have not begun");
  addWaitOptions(cancel.option("--detach", "do not wait for the job to end: print its id")).action(
    clientAction(async (context, id: string, { timeout, detach }: WaitFlags) => {
      const { client, output, signal } = context;
      const job = await withRetries(() => client.cancelJob(id, { signal }), signal);
      if (detach === true) {
        if (output.json) output.body(job);
        else output.print(job.id);
        return EXIT.done;
      }
      // Here "cancelled" is what was asked for; a job that ended otherwise was not cancelled in time.
      return await followJob(context, job, timeout, {
        exitCode: (ended) => (ended.status === "cancelled" ? EXIT.done : EXIT.failed),
      });
    }),
  );
}

function addWaitOptions(command: Command): Command {
  return addClientOptions(command).addOption(timeoutOption());
}

async function list({ client, output, signal }: ClientContext, flags: ListFlags): Promise<void> {
  const { status, target, command, limit } = flags;
  const page = await withRetries(() => client.jobs({ status, target, command, limit }, { signal }), signal);
  if (output.json) {
    output.body(page);
    return;
  }
  output.table(
    page.items.map(jobRow),
    [
      { key: "job", title: "JOB" },
      { key: "command", title: "COMMAND" },
      { key: "target", title: "TARGET" },
      { key: "status", title: "STATUS" },
      { key: "steps", title: "STEPS", align: "right" },
      { key: "created", title: "CREATED" },
    ],
    "No jobs.",
  );
  if (page.nextCursor !== null)
    output.note(`There may be more: --limit (now ${limit}), --status, --target, --command.`);
}

function jobRow(job: ListedJobResource): Record<string, string> {
  return {
    job: job.id,
    command: job.command,
    target: job.target,
    status: job.status,
    steps: `${job.counts.succeeded}/${job.counts.total}`,
    created: job.createdAt,
  };
}

async function showOne({ client, output, signal }: ClientContext, id: string): Promise<void> {
  const job = await withRetries(() => client.job(id, { signal }), signal);
  if (output.json) {
    output.body(job);
    return;
  }
  output.facts({
    job: job.id,
    command: job.command,
    target: job.target,
    status: job.status,
    progress: job.progress.message,
    reason: job.reason ?? "",
    by: job.by ?? "",
    master: job.master,
    "created at": job.createdAt,
    "deadline at": job.deadlineAt,
    "finished at": job.finishedAt ?? "",
  });
  output.print("");
  const columns = ["node", "action", "stitch", "status", "error"].map((key) => ({ key, title: key.toUpperCase() }));
  output.table(stepRows(job), columns, "No steps.");
  const failures = exitCodeOfJob(job) === EXIT.failed ? failureLines(job) : [];
  for (const line of failures) output.note(line);
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

function printStitches({ output }: ClientContext, job: JobResource): void {
  for (const stitch of job.stitches) output.print(printable(stitch));
}
