import type { ExitCode } from "./exit-code.ts";

/** Enough time for output to be written to a pipe. */
const LINGER_MS = 1000;

/**
 * Ends the process with `code` as soon as nothing is left to do, so that all output is written; at the latest after one
 * second, even if something is still open.
 */
export function endWith(code: ExitCode): void {
  process.exitCode = code;
  setTimeout(() => process.exit(code), LINGER_MS).unref();
}
