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
import { printWarnings } from "./print-warnings.ts";

type Flags = CommandFlags & HealthyFlags & { readonly to?: string };

const VERBS = {
  clone: "create and start another stitch with the same group and spec; prints its full id",
  move: "start a stitch on another node, then stop it where it is; prints its new full id",
} as const;

/** `clone` and `move` of a stitch, to a node that is named or chosen. */
export function registerCloneAndMove(parent: Command, mode: Mode): void {
  for (const verb of ["clone", "move"] as const) {
    const command = parent
      .command(`${verb} <stitch>`)
      .description(VERBS[verb])
      .option("--to <node>", "to this node (default: as a new one would be placed)");
    if (verb === "move") addHealthyOption(command);
    addCommandOptions(command, mode).action(
      clientAction(async (context, target: string, flags: Flags) => {
        const options = { ...(flags.to === undefined ? {} : { toNode: flags.to }), ...healthyOf(flags) };
        const body = commandBody(`stitch.${verb}`, target, flags, options);
        if (verb === "move") await printWarnings(context, mode, body);
        return await carryOut(context, mode, body, flags, printCreated(context));
      }),
    );
  }
}
