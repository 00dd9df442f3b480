// What `npm run bench [-- NAME…]` runs: benchmarks on a private Redis, as ratios to raw BullMQ, raw Redis and bare `spawn`,
// measured in the same run, round by round in turn. It prints, and asserts no time. Exit code 1 if a benchmark failed.
import { mkdtemp, rm } from "node:fs/promises";
import { availableParallelism, loadavg, tmpdir } from "node:os";
import { join } from "node:path";
import { startLocalRedis } from "../../src/cli/processes/local-redis.ts";
import type { Bench } from "./bench.ts";
import { counts } from "./counts.ts";
import { edge } from "./edge.ts";
import { fanout } from "./fanout.ts";
import { heartbeat } from "./heartbeat.ts";
import { onEndingSignals } from "../../src/ending-signals.mjs";
import { host } from "./host.ts";
import { masters } from "./masters.ts";
import { messages } from "./messages.ts";
import { nodes } from "./nodes.ts";
import { ping } from "./ping.ts";

const BENCHMARKS: Readonly<Record<string, (bench: Bench) => Promise<void>>> = {
  ping,
  heartbeat,
  nodes,
  host,
  messages,
  fanout,
  counts,
  masters,
  edge,
};
const ROUNDS = 3;
/** The longest that one benchmark may take. After that it is ended. */
const LIMIT_MS = 600_000;

const print = (line: string): void => {
  process.stdout.write(`${line}\n`);
};
const names = process.argv.length > 2 ? process.argv.slice(2) : Object.keys(BENCHMARKS);
const unknown = names.filter((name) => !Object.hasOwn(BENCHMARKS, name));
if (unknown.length > 0) {
  process.stderr.write(`no such benchmark: ${unknown.join(", ")}; there are ${Object.keys(BENCHMARKS).join(", ")}\n`);
  process.exitCode = 1;
} else {
  const stopped = Promise.withResolvers<never>();
  stopped.promise.catch(() => {
    // The benchmark that runs gets this rejection, too.
  });
  onEndingSignals((signal) => stopped.reject(new Error(`ended by ${signal}`)));
  print(
    `Node ${process.version}, ${availableParallelism()} CPUs, load ${loadavg()[0]?.toFixed(2)}; median of ${ROUNDS} rounds.`,
  );
  try {
    for (const name of names) await runOne(name, stopped.promise);
  } catch (error) {
    process.stderr.write(`${error instanceof Error ? error.stack : String(error)}\n`);
    process.exitCode = 1;
  }
  // A benchmark that was cut short may still have work under way.
  process.exit();
}

async function runOne(name: string, stopped: Promise<never>): Promise<void> {
  const dir = await mkdtemp(join(tmpdir(), "crossstitch-bench-"));
  const ends: (() => Promise<void>)[] = [() => rm(dir, { recursive: true, force: true })];
  const late = Promise.withResolvers<never>();
  const timer = setTimeout(() => late.reject(new Error(`${name}: not done within ${LIMIT_MS / 1000} s`)), LIMIT_MS);
  try {
    const redis = await startLocalRedis({ dir: join(dir, "redis"), port: 0 });
    ends.push(() => redis.stop());
    print("");
    const bench = {
      redisUrl: redis.url,
      rounds: ROUNDS,
      print,
      atEnd: (end: () => Promise<void>) => void ends.push(end),
    };
    await Promise.race([BENCHMARKS[name]?.(bench), stopped, late.promise]);
  } finally {
    clearTimeout(timer);
    for (const end of ends.reverse()) await end();
  }
}
