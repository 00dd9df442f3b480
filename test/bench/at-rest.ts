import { type ChildProcess, spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { pause } from "../../src/bounded-wait.ts";
import { TestCluster } from "../support/cluster.ts";
import type { Bench } from "./bench.ts";
import { median, table, times } from "./stats.ts";

const REST_MS = 5000;

/** What the processes of a cluster hold in memory (RSS) when nothing happens, 5 s after all have started, against bare `node`. */
export async function memoryAtRest({ redisUrl, rounds, print, atEnd }: Bench): Promise<void> {
  const held = new Map<string, number[]>();
  for (let round = 0; round < rounds; round++) {
    const cluster = await new TestCluster(redisUrl).start();
    atEnd(() => cluster.stop());
    const bare = spawn(process.execPath, ["--eval", "setInterval(() => undefined, 1000)"], { stdio: "ignore" });
    atEnd(async () => void bare.kill());
    const [node, master, { part: api }] = await Promise.all([
      cluster.node("n1"),
      cluster.masterWorker({ STITCH_NODE_ID: "m1" }),
      cluster.api(),
    ]);
    await pause(REST_MS);
    const all: [string, ChildProcess][] = [
      ["bare node", bare],
      ["node worker", node.child],
      ["master", master.child],
      ["API", api.child],
    ];
    for (const [name, child] of all) held.set(name, [...(held.get(name) ?? []), megabytes(child)]);
    bare.kill();
    await cluster.stop();
  }
  const base = median(held.get("bare node") ?? []);
  const rows = [...held].map(([name, all]) => [name, median(all).toFixed(1), times(median(all) / base)]);
  print("");
  print(table([["memory at rest", "RSS, MB", "ratio to bare node"], ...rows]));
}

/** Only Linux tells it in this way. */
function megabytes({ pid }: ChildProcess): number {
  const status = readFileSync(`/proc/${pid}/status`, "utf8");
  return (Number(/^VmRSS:\s+(\d+) kB$/m.exec(status)?.[1]) * 1024) / 1e6;
}
