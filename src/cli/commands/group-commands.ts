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
import { printCreated } from "./created.ts";
import { parseCount } from "../options/option-values.ts";
import { addPlacementOptions, type PlacementFlags, placementOf } from "../options/placement-flags.ts";
import { printWarnings } from "./print-warnings.ts";

/** `scale`, `rebalance` and `stop-old` of a group. */
export function registerGroupCommands(parent: Command, mode: Mode): void {
  const scale = parent
    .command("scale")
    .description("bring a group to a number of stitches; prints the full ids of those it created")
    .argument("<group>", "application.component.version")
    .argument("<n>", "how many there shall be", parseCount);
  addCommandOptions(addHealthyOption(addPlacementOptions(scale)), mode).action(
    clientAction((context, group: string, count: number, flags: CommandFlags & PlacementFlags & HealthyFlags) => {
      const body = commandBody("group.scale", group, flags, { count, ...placementOf(flags), ...healthyOf(flags) });
      return carryOut(context, mode, body, flags, printCreated(context));
    }),
  );

  const rebalance = parent
    .command("rebalance <group>")
    .description("move stitches of a group until they are spread evenly; prints the full ids they have now")
    .option("--max-moves <n>", "no more moves than these", parseCount);
  addCommandOptions(addHealthyOption(rebalance), mode).action(
    clientAction(
      async (context, group: string, flags: CommandFlags & HealthyFlags & { readonly maxMoves?: number }) => {
        const options = { ...(flags.maxMoves === undefined ? {} : { maxMoves: flags.maxMoves }), ...healthyOf(flags) };
        const body = commandBody("group.rebalance", group, flags, options);
        await printWarnings(context, mode, body);
        return await carryOut(context, mode, body, flags, printCreated(context));
      },
    ),
  );

  const stopOld = parent
    .command("stop-old <group>")
    .description("stop the older versions of a group's component, once as many of this one are well")
    .option("--force", "at once, however this version is");
  addCommandOptions(addHealthyOption(stopOld), mode).action(
    clientAction((context, group: string, flags: CommandFlags & HealthyFlags & { readonly force?: true }) => {
      const options = { ...(flags.force === true ? { force: true } : {}), ...healthyOf(flags) };
      return carryOut(context, mode, commandBody("group.stopOldVersions", group, flags, options), flags);
    }),
  );
}
