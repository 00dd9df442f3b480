// What `npm test` runs: one private Redis and one three-master Redis Cluster for the whole run, then the test files given
// (files or folders; default: all), each in a process of its own, but for those of pure
// computations (test/support/pure-tests.ts). Exit code: node's test runner's. What is printed:
// test/support/reporter.ts, or what TEST_REPORTER names (`spec` for everything).
import { type ChildProcess, spawn } from "node:child_process";
import { globSync, statSync } from "node:fs";
import { chmod, mkdtemp, rm, symlink } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { pathToFileURL } from "node:url";
import { type LocalRedis, startLocalRedis } from "../src/cli/processes/local-redis.ts";
import { onEndingSignals } from "../src/ending-signals.mjs";
import { steps } from "../src/cli/up/steps.ts";
import { bundleCli } from "../infra/build.ts";
import { bundlePure } from "./support/pure-tests.ts";
import { type LocalCluster, startLocalCluster } from "./support/redis-cluster.ts";

const FILES_AT_ONCE = 3;
/** Of unit tests, most wait for a process now and then. */
const UNIT_FILES_AT_ONCE = 5;
/** Longer than any wait inside a test, so that the test itself says what it missed. */
const TEST_LIMIT_MS = 300_000;
const EXIT_INTERRUPTED = 130;
/** No test loses power: a disk that is busy for seconds must not hold up a Redis that others wait for. */
const NO_FSYNC = { appendfsync: "no" };

const root = dirname(import.meta.dirname);
let tests: ChildProcess | null = null;
let interrupted = false;
onEndingSignals(() => {
  interrupted = true;
  tests?.kill("SIGTERM");
});

// A terminal that was closed takes no more lines; what was started is ended all the same.
for (const stream of [process.stdout, process.stderr]) stream.on("error", () => undefined);

const files = testFiles(process.argv.slice(2));
if (files.length === 0) {
  process.stderr.write(`test/run.ts: no test files in: ${process.argv.slice(2).join(" ") || "test"}\n`);
  process.exitCode = 1;
} else {
  process.exitCode = await runAll(files);
}

async function runAll(paths: readonly string[]): Promise<number> {
  const dir = await mkdtemp(join(tmpdir(), "crossstitch-test-"));
  // As other users too, tests run what is in it.
  await chmod(dir, 0o711);
  // TCP, because workerd cannot reach a Unix socket, nor can a proxy that breaks connections stand before one.
  const atOnce = paths.every((path) => path.startsWith("test/unit/")) ? UNIT_FILES_AT_ONCE : FILES_AT_ONCE;
  const cli = join(dir, "cli");
  await symlink(join(root, "node_modules"), join(dir, "node_modules"));
  const bundling = bundleCli(cli);
  const starting: [Promise<LocalRedis>, Promise<LocalCluster>] = [
    startLocalRedis({ dir: join(dir, "redis"), port: 0, settings: NO_FSYNC }),
    startLocalCluster({ dir: join(dir, "cluster"), masters: 3, settings: NO_FSYNC }),
  ];
  try {
    const step = steps((line) => process.stdout.write(`${line}\n`));
    const [redis, cluster] = await step("a Redis and a Redis Cluster of three for the tests", () =>
      Promise.all(starting),
    );
    return interrupted
      ? EXIT_INTERRUPTED
      : await nodeTest(bundlePure(paths, root, dir), atOnce, {
          TEST_REDIS_URL: redis.url,
          TEST_REDIS_CLUSTER_URL: cluster.url,
          TEST_STITCH: await bundling.then(() => join(cli, "main.js")),
          // Half of what a start costs, of each file and of each process that a test starts, is compiling the same again.
          NODE_COMPILE_CACHE: join(dir, "compiled"),
        });
  } finally {
    for (const one of await Promise.allSettled(starting)) if (one.status === "fulfilled") await one.value.stop();
    // A process that ends at this moment may still be keeping what it has compiled.
    await rm(dir, { recursive: true, force: true, maxRetries: 5 });
  }
}

function nodeTest(paths: readonly string[], atOnce: number, given: Readonly<Record<string, string>>): Promise<number> {
  const options = [
    "--test",
    `--test-reporter=${process.env["TEST_REPORTER"] ?? pathToFileURL(join(root, "test/support/reporter.ts")).href}`,
    `--test-concurrency=${atOnce}`,
    `--test-timeout=${TEST_LIMIT_MS}`,
    `--import=${pathToFileURL(join(root, "test/support/leak-check.ts")).href}`,
  ];
  // Set where this runs inside a test (the clean clone's): the inner run must report for itself. `_`: where this runs under
  // nohup, the processes that the tests start do not.
  const { NODE_TEST_CONTEXT: _, _: __, ...env } = process.env;
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [...options, ...paths], {
      cwd: root,
      env: { ...env, ...given },
      stdio: ["ignore", "inherit", "inherit"],
    });
    tests = child;
    child.once("error", reject);
    child.once("exit", (code) => resolve(interrupted ? EXIT_INTERRUPTED : (code ?? 1)));
  });
}

/** A folder stands for the test files in it. What is neither is left for the test runner to complain about. */
function testFiles(paths: readonly string[]): string[] {
  const asked = paths.length === 0 ? ["test"] : paths;
  return asked.flatMap((path) =>
    statSync(join(root, path), { throwIfNoEntry: false })?.isDirectory() === true
      ? globSync(`${path}/**/*.test.ts`, { cwd: root }).sort()
      : [path],
  );
}
