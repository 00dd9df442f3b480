import type { CommandBody } from "../client/client.ts";
import type { CommandFlags } from "./command-options.ts";

/** The fields every command takes, from its flags; what was not given is left to the API's defaults. */
export function commandBody(
  command: string,
  target: string,
  flags: Pick<CommandFlags, "reason" | "waitForNode" | "deadline" | "plan">,
  options: Readonly<Record<string, unknown>> = {},
): CommandBody {
  return {
    command,
    target,
    ...options,
    ...(flags.deadline === undefined ? {} : { deadlineMs: flags.deadline }),
    ...(flags.waitForNode === true ? { waitForNode: true } : {}),
    ...(flags.reason === undefined ? {} : { reason: flags.reason }),
    ...(flags.plan === undefined ? {} : { planToken: flags.plan }),
  };
}

/** Does what was typed name a group? A dot says so; a bare application needs `--group`. */
export function namesGroup(target: string, flags: { readonly group?: true }): boolean {
  return flags.group === true || target.includes(".");
}
