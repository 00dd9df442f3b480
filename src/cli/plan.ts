import type { Command } from "commander";
import { registerNodeCommands } from "./node-commands.ts";
import { registerRun } from "./run.ts";
import { registerStitchCommands } from "./stitch-commands.ts";

/** `stitch plan run|start|stop|rm|ping|cordon|uncordon …`: what the command would do. */
export function registerPlan(program: Command): void {
  const plan = program
    .command("plan")
    .description(
      "show what a command would do, and the token that applies just that; exit code 2 if it cannot be placed",
    );
  registerRun(plan, "plan");
  registerStitchCommands(plan, "plan");
  registerNodeCommands(plan, "plan");
}
