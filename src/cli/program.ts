import { Command } from "commander";
import packageJson from "../../package.json" with { type: "json" };
import { registerCloneAndMove } from "./commands/clone-move.ts";
import { registerCompletion } from "./commands/completion.ts";
import { registerDeadLetters } from "./commands/dead-letters.ts";
import { registerEvents } from "./commands/events.ts";
import { registerGroupCommands } from "./commands/group-commands.ts";
import { registerJobs } from "./commands/jobs.ts";
import { registerLogs } from "./commands/logs.ts";
import { registerAdopt, registerForget, registerNodeCommands } from "./commands/node-commands.ts";
import { registerGroups } from "./commands/groups.ts";
import { registerMasters } from "./commands/masters.ts";
import { registerNodes } from "./commands/nodes.ts";
import { registerPartCommands } from "./commands/part-commands.ts";
import { registerPlan } from "./commands/plan.ts";
import { registerPs } from "./commands/ps.ts";
import { registerRun } from "./commands/run.ts";
import { registerSend } from "./commands/send.ts";
import { registerStatus } from "./commands/status.ts";
import { registerStitchCommands } from "./commands/stitch-commands.ts";
import { registerUp } from "./up.ts";

const AFTER_HELP = `
Exit codes: 0 done, 1 usage, HTTP or connection error, 2 could not be placed, 3 failed, partial, cancelled, expired
or undelivered, 5 still running when the wait ended, 130 Ctrl-C.`;

/** The command line. Every action sets the exit code itself; commander's own errors are thrown as CommanderError. */
export function createProgram(): Command {
  const program = new Command("stitch")
    .description(packageJson.description)
    .version(packageJson.version)
    // An option after a command belongs to that command, so `stitch jobs watch` and `stitch jobs` may have the same option.
    .enablePositionalOptions()
    .showHelpAfterError("(--help shows what there is)")
    .addHelpText("after", AFTER_HELP)
    .exitOverride();
  registerUp(program);
  registerPartCommands(program);
  registerStatus(program);
  registerNodes(program);
  registerMasters(program);
  registerPs(program);
  registerGroups(program);
  registerLogs(program);
  registerSend(program);
  registerDeadLetters(program);
  registerRun(program, "carry-out");
  registerStitchCommands(program, "carry-out");
  registerCloneAndMove(program, "carry-out");
  registerGroupCommands(program, "carry-out");
  registerNodeCommands(program, "carry-out");
  registerAdopt(program);
  registerForget(program);
  registerPlan(program);
  registerJobs(program);
  registerEvents(program);
  registerCompletion(program);
  return program;
}
