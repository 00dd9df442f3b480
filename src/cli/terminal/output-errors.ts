import { outlivesTerminal } from "../../ending-signals.mjs";

/**
 * Bears that stdout or stderr cannot be written to, once per process. Without it, the next line written would end the process
 * with a stack, and a worker's stitches without their grace.
 *
 * - A reader that has seen enough (`stitch ps | head -1`) changes nothing of what is done.
 * - A terminal that was closed is as its SIGHUP, which comes with it, and to a process in the background perhaps not.
 * - A full disk under the log of a part costs what is logged.
 * @param onLost told once that an answer on stdout is lost though somebody may want it (a full disk).
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
