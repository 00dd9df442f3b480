import { randomUUID } from "node:crypto";
import { ApiError, ApiUnreachable, type CommandBody } from "../client/client.ts";
import type { JobResource } from "../domain/resources.ts";
import type { ClientContext } from "./client-action.ts";
import type { CommandFlags } from "./command-options.ts";
import { EXIT, type ExitCode } from "./exit-code.ts";
import { followJob } from "./follow-job.ts";
import { Interrupted } from "./interrupted.ts";
import { withRetries } from "./retry.ts";

/** Short, so that the job's id is known soon; the rest of the wait is by looks at the job. */
const FIRST_WAIT_MS = 1000;

/**
 * Sends a command and, unless detached, follows its job. The idempotency key makes the retries safe.
 * @param print what to print of a job that succeeded (default: nothing but the message).
 * @throws ApiError, ApiUnreachable, Interrupted.
 */
export async function sendCommand(
  context: ClientContext,
  body: CommandBody,
  flags: CommandFlags,
  print: (job: JobResource) => void = () => undefined,
): Promise<ExitCode> {
  const { client, output, signal } = context;
  const idempotencyKey = flags.key ?? randomUUID();
  const waitMs = flags.detach === true ? 0 : Math.min(FIRST_WAIT_MS, flags.timeout);
  const startedAtMs = performance.now();
  const { job, replayed } = await withRetries(
    () => client.command(body, { waitMs, idempotencyKey, signal }),
    signal,
  ).catch((error: unknown) => {
    const hint = `The command may have been accepted. The same again with --key ${idempotencyKey} is not carried out twice.`;
    if (error instanceof Interrupted) throw new Interrupted(hint);
    if (mayHaveBeenAccepted(error)) output.note(hint);
    throw error;
  });
  // Our own key is new: "replayed" is then only our own retry, and of no interest.
  if (replayed && flags.key !== undefined) output.note("This key was used before: this is the job it created.");
  if (flags.detach === true) {
    if (output.json) output.body(job);
    else output.print(job.id);
    return EXIT.done;
  }
  const leftMs = Math.max(0, flags.timeout - (performance.now() - startedAtMs));
  return await followJob(context, job, leftMs, { print });
}

/** A command whose answer never came may have been accepted: says how to find out without doing it twice. */
function mayHaveBeenAccepted(error: unknown): boolean {
  return (error instanceof ApiUnreachable && !error.refused) || (error instanceof ApiError && error.status >= 500);
}
