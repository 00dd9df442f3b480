import { CommanderError } from "commander";
import { EXIT } from "./exit-code.ts";
import { heedLostOutput } from "./output-gone.ts";
import { createProgram } from "./program.ts";

heedLostOutput();

try {
  await createProgram().parseAsync(process.argv);
} catch (error) {
  if (!(error instanceof CommanderError)) throw error;
  // Commander has said what was wrong; what it ends with 0 is help and the version.
  process.exitCode = error.exitCode === 0 ? EXIT.done : EXIT.error;
}
