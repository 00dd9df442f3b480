import type { Command } from "commander";
import { carryOut } from "./carry-out.ts";
import { clientAction } from "./client-action.ts";
import { commandBody, namesGroup } from "./command-body.ts";
import { addCommandOptions, type CommandFlags, type Mode } from "./command-options.ts";
import { confirmed } from "./confirm.ts";
import { EXIT } from "./exit-code.ts";

type Flags = CommandFlags & { readonly group?: true };

const VERBS = [
  { name: "start", action: "start", summary: "start a stitch or a group that is stopped", asks: null },
  { name: "stop", action: "stop", summary: "stop a stitch or a group", asks: "Stop every stitch of" },
  { name: "rm", action: "remove", summary: "stop and remove a stitch or a group", asks: "Remove every stitch of" },
] as const;

/** `start`, `stop` and `rm` of a stitch or a group. */
export function registerStitchCommands(parent: Command, mode: Mode): void {
  for (const verb of VERBS) {
    const command = parent
      .command(`${verb.name} <stitch|group>`)
      .summary(verb.summary)
      .description(`${verb.summary}. A dot means a group (shop.orders); a bare application needs --group.`)
      .option("--group", "the name is a group");
    if (mode === "carry-out" && verb.asks !== null) command.option("-y, --yes", "do not ask");
    addCommandOptions(command, mode).action(
      clientAction(async (context, target: string, flags: Flags) => {
        const group = namesGroup(target, flags);
        const asks = mode === "carry-out" && group && verb.asks !== null;
        if (asks && !(await confirmed(`${verb.asks} ${target}?`, flags, context.output))) {
          context.output.note("Nothing was done.");
          return EXIT.error;
        }
        const name = `${group ? "group" : "stitch"}.${verb.action}`;
        return await carryOut(context, mode, commandBody(name, target, flags), flags);
      }),
    );
  }
}
