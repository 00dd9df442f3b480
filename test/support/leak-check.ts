// Loaded before each test file (test/run.ts). If the process of a file does not end by itself after its last test, the file has
// left something open, such as a timer, a socket or a child. The file then fails and names it, and does not hang the whole run.
import { after } from "node:test";

const LIMIT_MS = 10_000;

// The runner itself loads this file too; only the processes of test files have this variable.
if (process.env["NODE_TEST_CONTEXT"] !== undefined) {
  after(() => {
    const timer = setTimeout(() => {
      const left = process.getActiveResourcesInfo().join(", ");
      process.stderr.write(`${process.argv[1]}: still open ${LIMIT_MS / 1000} s after the last test: ${left}\n`);
      process.exit(1);
    }, LIMIT_MS);
    timer.unref();
  });
}
