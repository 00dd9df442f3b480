// Loaded before each test file (test/run.ts): a file whose process does not end by itself after its last test left
// something open, such as a timer, a socket or a child. It fails with what that is, and does not hang the whole run.
import { after } from "node:test";

const LIMIT_MS = 10_000;

// The runner itself loads this too; only the processes of the files have this set.
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
