import { readFile } from "node:fs/promises";
import { text } from "node:stream/consumers";
import { type Command, Option } from "commander";
import { errorText } from "../../error-text.ts";
import { carryOut } from "./carry-out.ts";
import { clientAction } from "../calls/client-action.ts";
import { parseCheck } from "../options/check-option.ts";
import { commandBody } from "../options/command-body.ts";
import { addCommandOptions, type CommandFlags, type Mode } from "../options/command-options.ts";
import { collectPair, parseWholeNumber } from "../options/option-values.ts";
import { addPlacementOptions } from "../options/placement-flags.ts";
import { createOptions, type RunFlags } from "../options/run-options.ts";
import { UsageError } from "../terminal/usage-error.ts";

type Flags = CommandFlags & RunFlags & { readonly spec?: string };

/** `stitch run GROUP -- CMD ARG…`: creates stitches. */
export function registerRun(parent: Command, mode: Mode): void {
  const command = parent
    .command("run <group> [command...]")
    .usage("[options] <application.component.version> -- <cmd> [arg...]")
    .description("create and start stitches of a group; prints their full ids")
    .option("--count <n>", "how many", parseWholeNumber)
    .option("--node <node>", "on this node")
    .option("--id <id>", "the stitch's id (with a count of 1)")
    .option("--env <name=value>", "a variable for the program; may be repeated", collectPair)
    .addOption(new Option("--restart <policy>", "when it exits").choices(["always", "on-failure", "never"]))
    .addOption(new Option("--protocol <protocol>", "what it speaks (default: none)").choices(["process-v1", "none"]))
    .option("--check <check>", "http:PORT/PATH, tcp:PORT or exec:COMMAND: is it well?", parseCheck)
    .option("--spec <file>", "the spec, as JSON; - reads it from stdin");
  addCommandOptions(addPlacementOptions(command), mode).action(
    clientAction(async (context, group: string, words: string[], flags: Flags) => {
      // Without --, an option of the program could be taken for an option of stitch, and the program would silently miss it.
      if (words.length > 0 && !process.argv.includes("--")) {
        throw new UsageError(`Put -- before the program: stitch run ${group} -- ${words.join(" ")}`);
      }
      const options = createOptions(flags, words, flags.spec === undefined ? null : await readSpec(flags.spec));
      const body = commandBody("stitch.create", group, flags, options);
      return await carryOut(context, mode, body, flags, (job) => {
        for (const stitch of job.stitches) context.output.print(stitch);
      });
    }),
  );
}

async function readSpec(file: string): Promise<string> {
  if (file === "-") return await text(process.stdin);
  try {
    return await readFile(file, "utf8");
  } catch (error) {
    throw new UsageError(`The spec cannot be read: ${errorText(error)}`);
  }
}
