import { outlivesTerminal } from "../ending-signals.mjs";
import { EXIT } from "./exit-code.ts";

/**
 * What to do where nobody takes the output any more, once per process. Without it, the next line written would end the
 * process with a stack, and a worker's stitches without their grace.
 *
 * - The reader of stdout has seen enough (`stitch ps | head`): the end, and no fault of ours.
 * - The terminal was closed: as its SIGHUP, which comes with it, and to a process in the background perhaps not.
 * - Nobody reads stderr any more: the work goes on.
 */
export function heedLostOutput(): void {
  let hungUp = false;
  const onTerminalGone = (): void => {
    if (hungUp || outlivesTerminal()) return;
    hungUp = true;
    process.kill(process.pid, "SIGHUP");
  };
  const listen = (stream: NodeJS.WriteStream, onReaderGone: () => void): void => {
    stream.on("error", (error: NodeJS.ErrnoException) => {
      if (error.code === "EPIPE") onReaderGone();
      else if (error.code === "EIO") onTerminalGone();
      else throw error;
    });
  };
  listen(process.stdout, () => process.exit(process.exitCode ?? EXIT.done));
  listen(process.stderr, () => undefined);
}
