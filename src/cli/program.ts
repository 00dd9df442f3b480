import { Command } from "commander";
import packageJson from "../../package.json" with { type: "json" };
import { registerCloneAndMove } from "./clone-move.ts";
import { registerDeadLetters } from "./dead-letters.ts";
import { registerEvents } from "./events.ts";
import { registerGroupCommands } from "./group-commands.ts";
import { registerJobs } from "./jobs.ts";
import { registerLogs } from "./logs.ts";
import { registerAdopt, registerNodeCommands } from "./node-commands.ts";
import { registerGroups } from "./groups.ts";
import { registerNodes } from "./nodes.ts";
import { registerPartCommands } from "./part-commands.ts";
import { registerPlan } from "./plan.ts";
import { registerPs } from "./ps.ts";
import { registerRun } from "./run.ts";
import { registerSend } from "./send.ts";
import { registerStatus } from "./status.ts";
import { registerStitchCommands } from "./stitch-commands.ts";
import { registerUp } from "./up.ts";

const AFTER_HELP = `
Exit codes: 0 done, 1 usage, HTTP or connection error, 2 could not be placed, 3 failed, partial, cancelled, expired
or undelivered, 5 still running when the wait ended, 130 Ctrl-C.`;

/** The command line. Every action sets the exit code itself; what commander refuses is thrown as CommanderError. */
export function createProgram(): Command {
  const program = new Command("stitch")
    .description(packageJson.description)
    .version(packageJson.version)
    // An option after a command belongs to that command, so that `stitch jobs watch` and `stitch jobs` may both have it.
    .enablePositionalOptions()
    .showHelpAfterError("(--help shows what there is)")
    .addHelpText("after", AFTER_HELP)
    .exitOverride();
  registerUp(program);
  registerPartCommands(program);
  registerStatus(program);
  registerNodes(program);
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
  registerPlan(program);
  registerJobs(program);
  registerEvents(program);
  return program;
}
