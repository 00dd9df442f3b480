import { spawn } from "node:child_process";
import { fstatSync } from "node:fs";

const STDOUT = 1;

/**
 * Calls `gone` when nobody reads the pipe on stdout any more (`stitch events -f | head -3`). The next written line would fail,
 * too, but a follower with nothing to print would run until then. Node cannot watch a pipe that it only writes to. GNU tail
 * can: it ends with SIGPIPE within a second. Without GNU tail, only the next written line shows that the reader is gone.
 * @returns a function that stops watching.
 */
export function onReaderGone(gone: () => void): () => void {
  if (!fstatSync(STDOUT).isFIFO()) return () => undefined;
  // tail ends with this process, however this process ends.
  const tail = spawn("tail", ["-f", "--pid", String(process.pid), "/dev/null"], {
    stdio: ["ignore", STDOUT, "ignore"],
  });
  const noTail = (): void => undefined;
  tail.once("error", noTail);
  tail.once("exit", (_code, signal) => {
    if (signal === "SIGPIPE") gone();
  });
  tail.unref();
  return () => tail.kill();
}
