import { CommanderError } from "commander";
import { EXIT } from "./terminal/exit-code.ts";
import { bearOutputErrors } from "./terminal/output-errors.ts";
import { createProgram } from "./program.ts";

const program = createProgram();
bearOutputErrors((error) => {
  // The output of `stitch up` is for people who watch; the cluster must not end because this output is lost.
  if (program.args[0] === "up") return;
  process.stderr.write(`The answer could not be written: ${error.message}. See to where stdout goes.\n`);
  process.once("exit", () => {
    if ((process.exitCode ?? EXIT.done) === EXIT.done) process.exitCode = EXIT.error;
  });
});

try {
  await program.parseAsync(process.argv);
} catch (error) {
  if (error instanceof CommanderError) {
    // Commander has printed the error. Its exit code 0 means help or the version.
    process.exitCode = error.exitCode === 0 ? EXIT.done : EXIT.error;
  } else if (error instanceof Error && "syscall" in error && error.syscall === "uv_cwd") {
    process.stderr.write("The folder that this was started in does not exist any more. Go to another one.\n");
    process.exitCode = EXIT.error;
  } else throw error;
}
