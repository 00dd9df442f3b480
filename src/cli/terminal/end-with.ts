import type { ExitCode } from "./exit-code.ts";

/** What is written to a pipe has gone out by then. */
const LINGER_MS = 1000;

/**
 * Ends the process with `code` as soon as nothing is left to do, which lets output flow out; at the latest after a second,
 * whatever was left open.
 */
export function endWith(code: ExitCode): void {
  process.exitCode = code;
  setTimeout(() => process.exit(code), LINGER_MS).unref();
}
