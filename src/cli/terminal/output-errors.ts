import { outlivesTerminal } from "../../ending-signals.mjs";

/**
 * Lets the process survive failed writes to stdout and stderr; call it once per process. Without it, the next written line
 * would end the process with a stack trace, and a worker's stitches without their grace period.
 *
 * - A reader that closes the pipe early (`stitch ps | head -1`) does not change what the command does.
 * - A closed terminal counts as SIGHUP: a process in the background may not get that signal itself.
 * - A full disk under the log of a part only loses log lines.
 * @param onLost called once when output on stdout is lost that somebody may still want (a full disk).
 */
export function bearOutputErrors(onLost: (error: NodeJS.ErrnoException) => void): void {
  let isLost = false;
  let hungUp = false;
  const onTerminalGone = (): void => {
    if (hungUp || outlivesTerminal()) return;
    hungUp = true;
    process.kill(process.pid, "SIGHUP");
  };
  process.stderr.on("error", (error: NodeJS.ErrnoException) => {
    if (error.code === "EIO") onTerminalGone();
  });
  process.stdout.on("error", (error: NodeJS.ErrnoException) => {
    if (error.code === "EIO") onTerminalGone();
    if (isLost || error.code === "EPIPE" || error.code === "EIO") return;
    isLost = true;
    onLost(error);
  });
}
