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
  { name: "restart", action: "restart", summary: "stop a stitch or a group and start it again", asks: null },
  { name: "rm", action: "remove", summary: "stop and remove a stitch or a group", asks: "Remove every stitch of" },
] as const;

/** `start`, `stop`, `restart` and `rm` of a stitch or a group; `clone` of a stitch. */
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
  const clone = parent
    .command("clone <stitch>")
    .description("create and start another stitch with the same group and spec; prints its full id")
    .option("--to <node>", "on this node");
  addCommandOptions(clone, mode).action(
    clientAction(async (context, target: string, flags: CommandFlags & { readonly to?: string }) => {
      const body = commandBody("stitch.clone", target, flags, flags.to === undefined ? {} : { toNode: flags.to });
      return await carryOut(context, mode, body, flags, (job) => {
        for (const stitch of job.stitches) context.output.print(stitch);
      });
    }),
  );
}
