import type { CommandBody } from "../../client/client.ts";
import type { JobResource } from "../../contract/job.ts";
import type { ClientContext } from "../calls/client-action.ts";
import type { CommandFlags, Mode } from "../options/command-options.ts";
import type { ExitCode } from "../terminal/exit-code.ts";
import { sendCommand } from "./send-command.ts";
import { showPlan } from "./show-plan.ts";

/** Sends the command, or shows its plan if it was typed after `stitch plan`. */
export function carryOut(
  context: ClientContext,
  mode: Mode,
  body: CommandBody,
  flags: CommandFlags,
  print?: (job: JobResource) => void,
): Promise<ExitCode> {
  return mode === "plan" ? showPlan(context, body) : sendCommand(context, body, flags, print);
}
