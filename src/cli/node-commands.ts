import type { Command } from "commander";
import { carryOut } from "./carry-out.ts";
import { clientAction } from "./client-action.ts";
import { commandBody } from "./command-body.ts";
import { addCommandOptions, type CommandFlags, type Mode } from "./command-options.ts";

const VERBS = {
  ping: "ask a node to answer, through its queue",
  cordon: "let a node take no new stitches",
  uncordon: "let a node take new stitches again",
};

/** `ping`, `cordon` and `uncordon` of a node. */
export function registerNodeCommands(parent: Command, mode: Mode): void {
  for (const [name, summary] of Object.entries(VERBS)) {
    addCommandOptions(parent.command(`${name} <node>`).description(summary), mode).action(
      clientAction((context, node: string, flags: CommandFlags) =>
        carryOut(context, mode, commandBody(`node.${name}`, node, flags), flags),
      ),
    );
  }
}
