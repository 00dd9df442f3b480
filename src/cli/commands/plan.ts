import type { Command } from "commander";
import { registerCloneAndMove } from "./clone-move.ts";
import { registerGroupCommands } from "./group-commands.ts";
import { registerNodeCommands } from "./node-commands.ts";
import { registerRun } from "./run.ts";
import { registerStitchCommands } from "./stitch-commands.ts";

/** `stitch plan <a command that changes something>`: what the command would do. */
export function registerPlan(program: Command): void {
  const plan = program
    .command("plan")
    .description(
      "show what a command would do, and the token that applies just that; exit code 2 if it cannot be placed",
    );
  registerRun(plan, "plan");
  registerStitchCommands(plan, "plan");
  registerCloneAndMove(plan, "plan");
  registerGroupCommands(plan, "plan");
  registerNodeCommands(plan, "plan");
}
