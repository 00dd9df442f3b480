import type { BodyOf, CommandBody } from "../../client/client.ts";
import type { CommandName } from "../../domain/commands/command-names.ts";
import type { CommandFlags } from "./command-options.ts";

/** A command's own options. The user's spec is passed on as it is: the API checks it. */
type OptionsOf<Name extends CommandName> = Name extends "stitch.create"
  ? Readonly<Record<string, unknown>>
  : Omit<BodyOf<Name>, "command" | "target">;

/** The body of a command, with the common fields from its flags. Without a flag, the API's default applies. */
export function commandBody<Name extends CommandName>(
  command: Name,
  target: string,
  flags: Pick<CommandFlags, "reason" | "waitForNode" | "deadline" | "plan">,
  options?: OptionsOf<Name>,
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
