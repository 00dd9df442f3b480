import type { JobResource } from "../../contract/job.ts";
import type { ClientContext } from "../calls/client-action.ts";
import { EXIT, type ExitCode, exitCodeOfJob } from "../terminal/exit-code.ts";
import { formatDuration } from "../terminal/duration.ts";
import { Interrupted } from "../terminal/interrupted.ts";
import { failureLines, jobLine } from "../terminal/job-text.ts";
import { createProgress } from "../terminal/progress.ts";

/** How often the job is read: a drawn bar needs it often, plain lines less often, and `--json` only the end. */
const STEP_MS = { terminal: 1000, plain: 5000, json: 25_000 };

type Following = {
  /** Do not wait: print the job's id. */
  readonly detach?: true | undefined;
  /** Prints the result of a job that succeeded. */
  readonly print?: (job: JobResource) => void;
  /** When waiting began, by `performance.now()` (default: now). */
  readonly sinceMs?: number;
  /** The exit code of the ended job (default: by its status). */
  readonly exitCode?: (job: JobResource) => ExitCode;
};

/**
 * Shows a job's progress until the job has ended or `timeoutMs` have passed (since `sinceMs`), then how the job ended. The job
 * continues when this stops early.
 * @throws Interrupted, whose hint says how to follow the job; ApiError, ApiUnreachable.
 */
export async function followJob(
  context: ClientContext,
  accepted: JobResource,
  timeoutMs: number,
  { detach, print, sinceMs = performance.now(), exitCode = exitCodeOfJob }: Following = {},
): Promise<ExitCode> {
  const { client, output, signal } = context;
  if (detach === true) {
    if (output.json) output.body(accepted);
    else output.print(accepted.id);
    return EXIT.done;
  }
  const progress = createProgress(output);
  const stepMs = output.json ? STEP_MS.json : output.messagesOnTerminal ? STEP_MS.terminal : STEP_MS.plain;
  const leftMs = Math.max(0, timeoutMs - (performance.now() - sinceMs));
  const job = await client
    .waitForJob(accepted, { timeoutMs: leftMs, stepMs, signal, onLook: progress.show })
    .catch((error: unknown) => {
      progress.end();
      if (error instanceof Interrupted) throw new Interrupted(goesOn(accepted.id));
      output.note(goesOn(accepted.id));
      throw error;
    })
    .finally(progress.end);
  if (output.json) output.body(job);
  if (job.finishedAt === null) {
    output.note(`still running after ${formatDuration(timeoutMs)}. ${goesOn(job.id)}`);
    return EXIT.stillRunning;
  }
  report(context, job);
  if (!output.json && job.status === "succeeded") print?.(job);
  return exitCode(job);
}

function report({ output }: ClientContext, job: JobResource): void {
  const good = job.status === "succeeded";
  const mark = good ? output.styled("green", "✔") : output.styled("red", "✖");
  output.note(`${mark} ${jobLine(job)}`);
  if (good) return;
  for (const line of failureLines(job)) output.note(`  ${line}`);
}

const goesOn = (id: string): string => `The job goes on. To follow it: stitch jobs watch ${id}`;
