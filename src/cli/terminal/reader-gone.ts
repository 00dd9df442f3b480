import { spawn } from "node:child_process";
import { fstatSync } from "node:fs";

const STDOUT = 1;

/**
 * Calls `gone` once nobody reads the pipe that stdout is (`stitch events -f | head -3`). The next line would tell, but a
 * follower that has nothing to print would live on until then. Node cannot watch a pipe that it only writes to; GNU's tail
 * does, and ends with SIGPIPE within a second. Where there is none, the next line tells.
 * @returns a function that ends the watching.
 */
export function onReaderGone(gone: () => void): () => void {
  if (!fstatSync(STDOUT).isFIFO()) return () => undefined;
  // It ends with this process, in whatever way that ends.
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
