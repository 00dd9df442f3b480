import type { Command } from "commander";
import type { Client } from "../../client/client.ts";
import type { JobResource, ListedJobResource } from "../../contract/job.ts";
import { addClientOptions, type ClientContext, clientAction } from "../calls/client-action.ts";
import { timeoutOption } from "../options/command-options.ts";
import { printCreated } from "./created.ts";
import { formatAge } from "../terminal/duration.ts";
import { EXIT } from "../terminal/exit-code.ts";
import { followJob } from "../follow/follow-job.ts";
import { parseLimit } from "../options/option-values.ts";
import { withRetries } from "../../client/retry.ts";
import { showJob } from "../follow/show-job.ts";

type ListFlags = {
  readonly status?: string;
  readonly target?: string;
  readonly command?: string;
  readonly limit: number;
};
type WaitFlags = { readonly timeout: number; readonly detach?: true };

/** `stitch jobs [JOB]`, and `watch`, `cancel`, `retry` and `rollback` of a job. */
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
      else await showJob(context, id);
      return EXIT.done;
    }),
  );

  addWaitOptions(jobs.command("watch <job>").description("follow a job until it ends; the exit code tells how")).action(
    clientAction(async (context, id: string, { timeout }: WaitFlags) => {
      const { client, signal } = context;
      const job = await client.job(id, { signal });
      return await followJob(context, job, timeout, { print: printCreated(context) });
    }),
  );

  const cancel = jobs.command("cancel <job>").description("cancel the parts of a job that have not begun");
  addDetachedWaitOptions(cancel).action(
    clientAction(async (context, id: string, { timeout, detach }: WaitFlags) => {
      const { client, signal } = context;
      const job = await withRetries(() => client.cancelJob(id, { signal }), signal);
      // Here "cancelled" is success; a job that ended with another status was not cancelled in time.
      return await followJob(context, job, timeout, {
        detach,
        exitCode: (ended) => (ended.status === "cancelled" ? EXIT.done : EXIT.failed),
      });
    }),
  );

  for (const { name, description, act } of FOLLOW_UPS) {
    const command = jobs.command(`${name} <job>`).description(description);
    if (name === "rollback") command.option("--reason <text>", "why; kept with the new job");
    addDetachedWaitOptions(command).action(
      clientAction(
        async (context, id: string, { timeout, detach, reason }: WaitFlags & { readonly reason?: string }) => {
          const { client, output, signal } = context;
          // Safe to repeat: a job has one retry and one rollback.
          const job = await withRetries(() => act(client, id, { signal, reason }), signal);
          if (detach !== true) output.note(`The new job: ${job.id}`);
          return await followJob(context, job, timeout, { detach, print: printCreated(context) });
        },
      ),
    );
  }
}

type FollowUp = {
  readonly name: string;
  readonly description: string;
  readonly act: (
    client: Client,
    id: string,
    call: { readonly signal: AbortSignal; readonly reason: string | undefined },
  ) => Promise<JobResource>;
};

/** The commands that make a new job from a finished one. */
const FOLLOW_UPS: readonly FollowUp[] = [
  {
    name: "retry",
    description: "repeat the parts of a finished job that did not succeed, as a new job",
    act: (client, id, { signal }) => client.retryJob(id, { signal }),
  },
  {
    name: "rollback",
    description: "take back what a finished job has changed, as a new job",
    act: (client, id, call) => client.rollbackJob(id, call),
  },
];

function addDetachedWaitOptions(command: Command): Command {
  return addWaitOptions(command.option("--detach", "do not wait for the job to end: print its id"));
}

function addWaitOptions(command: Command): Command {
  return addClientOptions(command).addOption(timeoutOption());
}

async function list({ client, output, signal }: ClientContext, flags: ListFlags): Promise<void> {
  const { status, target, command, limit } = flags;
  const page = await client.jobs({ status, target, command, limit }, { signal });
  if (output.json) {
    output.body(page);
    return;
  }
  output.table(
    page.items.map((job) => jobRow(job, page.asOf)),
    [
      { key: "job", title: "JOB" },
      { key: "status", title: "STATUS" },
      { key: "steps", title: "STEPS", align: "right" },
      { key: "age", title: "AGE", align: "right" },
      { key: "command", title: "COMMAND" },
      { key: "target", title: "TARGET" },
    ],
    "No jobs.",
  );
  if (page.nextCursor !== null)
    output.note(`There may be more: --limit (now ${limit}), --status, --target, --command.`);
}

function jobRow(job: ListedJobResource, asOf: string): Record<string, string> {
  return {
    job: job.id,
    status: job.status,
    steps: `${job.counts.succeeded}/${job.counts.total}`,
    age: formatAge(Date.parse(asOf) - Date.parse(job.createdAt)),
    command: job.command,
    target: job.target,
  };
}
