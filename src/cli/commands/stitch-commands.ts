import type { Command } from "commander";
import { carryOut } from "./carry-out.ts";
import { clientAction } from "../calls/client-action.ts";
import { commandBody } from "../options/command-body.ts";
import {
  addCommandOptions,
  addHealthyOption,
  type CommandFlags,
  type HealthyFlags,
  healthyOf,
  type Mode,
} from "../options/command-options.ts";
import { confirmed } from "../terminal/confirm.ts";
import { EXIT } from "../terminal/exit-code.ts";
import { countOf, total } from "../terminal/format.ts";
import { namesGroup } from "../calls/names-group.ts";
import { parseBatch } from "../options/option-values.ts";
import { UsageError } from "../terminal/usage-error.ts";

type Flags = CommandFlags & { readonly group?: true };

const VERBS = [
  { name: "start", action: "start", summary: "start a stitch or a group that is stopped", asks: null },
  { name: "stop", action: "stop", summary: "stop a stitch or a group", asks: "Stop" },
  { name: "rm", action: "remove", summary: "stop and remove a stitch or a group", asks: "Stop and remove" },
] as const;

/** `start`, `stop`, `restart` and `rm` of a stitch or a group. */
export function registerStitchCommands(parent: Command, mode: Mode): void {
  for (const verb of VERBS) {
    const command = stitchOrGroup(parent, verb.name, verb.summary);
    if (mode === "carry-out" && verb.asks !== null) command.option("-y, --yes", "do not ask");
    addCommandOptions(command, mode).action(
      clientAction(async (context, target: string, flags: Flags) => {
        const group = namesGroup(target, flags);
        const question = async (): Promise<string> => {
          const { stitches } = await context.client.group(target, { signal: context.signal });
          return `${verb.asks} ${countOf(total(stitches.byState))} of ${target}?`;
        };
        const asks = mode === "carry-out" && group && verb.asks !== null;
        if (asks && !(await confirmed(question, flags, context.output))) return EXIT.error;
        const name = `${group ? "group" : "stitch"}.${verb.action}` as const;
        return await carryOut(context, mode, commandBody(name, target, flags), flags);
      }),
    );
  }
  registerRestart(parent, mode);
}

function registerRestart(parent: Command, mode: Mode): void {
  const command = stitchOrGroup(parent, "restart", "stop a stitch or a group and start it again").option(
    "--batch <n>",
    "of a group so many at once, such as 2 or 25%; the next when those are well (default: 1)",
    parseBatch,
  );
  addCommandOptions(addHealthyOption(command), mode).action(
    clientAction((context, target: string, flags: Flags & HealthyFlags & { readonly batch?: number | string }) => {
      const { batch, minHealthy } = flags;
      if (namesGroup(target, flags)) {
        const options = { ...(batch === undefined ? {} : { batch }), ...healthyOf(flags) };
        const body = commandBody("group.restart", target, flags, options);
        return carryOut(context, mode, body, flags);
      }
      if (batch !== undefined || minHealthy !== undefined) {
        throw new UsageError(`--batch and --min-healthy are for groups. Is ${target} one? A dot or --group says so.`);
      }
      return carryOut(context, mode, commandBody("stitch.restart", target, flags), flags);
    }),
  );
}

function stitchOrGroup(parent: Command, name: string, summary: string): Command {
  return parent
    .command(`${name} <stitch|group>`)
    .summary(summary)
    .description(`${summary}. A dot means a group (shop.orders); a bare application needs --group.`)
    .option("--group", "the name is a group");
}
