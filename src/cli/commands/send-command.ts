import { randomUUID } from "node:crypto";
import type { CommandBody } from "../../client/client.ts";
import type { JobResource } from "../../contract/job.ts";
import type { ClientContext } from "../calls/client-action.ts";
import type { CommandFlags } from "../options/command-options.ts";
import type { ExitCode } from "../terminal/exit-code.ts";
import { followJob } from "../follow/follow-job.ts";
import { underKey } from "../calls/under-key.ts";

/** Short, so that the job's id is known soon; the rest of the wait is done by reading the job. */
const FIRST_WAIT_MS = 1000;

/**
 * Sends a command and, unless detached, follows its job. The idempotency key makes the retries safe.
 * @param print prints the result of a job that succeeded (default: only the message).
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
  const sinceMs = performance.now();
  const { job, replayed } = await underKey(context, idempotencyKey, "command", () =>
    client.command(body, { waitMs, idempotencyKey, signal }),
  );
  // A key that we made is new: "replayed" then only means our own retry, which does not interest the user.
  if (replayed && flags.key !== undefined) output.note("This key was used before: this is the job it created.");
  return await followJob(context, job, flags.timeout, { detach: flags.detach, print, sinceMs });
}
