import { readProcess } from "../../workers/node/processes/process-table.ts";
import { type Part, TestCluster } from "../support/cluster.ts";
import { ANSWERS } from "../support/stitch-programs.ts";
import { besideFloods } from "./beside-floods.ts";
import type { Bench } from "./bench.ts";
import { type StartAndStop, spawned } from "./spawned.ts";
import { median, table, times } from "./stats.ts";

const SIZES = [100, 500];
/** Long enough for a heartbeat of every stitch, and for a pass that measures them all. */
const IDLE_MS = 10_000;
const LIMIT_MS = 120_000;

/** The cost to start, stop and keep stitches on one node, against bare `spawn`; and their heartbeats beside floods. */
export async function host({ redisUrl, rounds, print, atEnd }: Bench): Promise<void> {
  const cluster = new TestCluster(redisUrl);
  atEnd(() => cluster.stop());
  await cluster.start();

  const rows = [["processes", "start ms", "stop ms", "start ratio", "stop ratio"]];
  const idle = [["idle", "KiB of the worker", "of its CPU, ms a second"]];
  for (const size of SIZES) {
    const node = await cluster.node(`n${size}`);
    const base: StartAndStop[] = [];
    const got: StartAndStop[] = [];
    for (let round = 0; round < rounds; round++) {
      base.push(await spawned(size, cluster.dir));
      const empty = round === 0 ? await kept(node) : null;
      const startMs = await started(cluster, size);
      if (empty !== null) {
        const full = await kept(node);
        const each = (figure: keyof typeof full) => ((full[figure] - empty[figure]) / size).toFixed(2);
        idle.push([`one of ${size} stitches`, each("memoryKib"), each("cpuMs")]);
      }
      got.push({ startMs, stopMs: await stopped(cluster, size) });
    }
    await node.kill("SIGTERM");
    const over = (of: StartAndStop[], figure: keyof StartAndStop) => median(of.map((round) => round[figure]));
    const ratio = (figure: keyof StartAndStop) =>
      times(median(got.map((round, index) => round[figure] / (base[index]?.[figure] ?? Number.NaN))));
    const cells = (of: StartAndStop[]) => [over(of, "startMs").toFixed(0), over(of, "stopMs").toFixed(0)];
    rows.push(
      [`bare spawn, ${size}`, ...cells(base), "1", "1"],
      [`stitches, ${size}`, ...cells(got), ratio("startMs"), ratio("stopMs")],
    );
  }
  print(table(rows));
  print(table(idle));
  print(table(await besideFloods(cluster)));
}

/** Creates `count` stitches with one command. @returns the milliseconds until all had answered a heartbeat. */
async function started(cluster: TestCluster, count: number): Promise<number> {
  const beganMs = performance.now();
  const job = await cluster.run(
    {
      command: "stitch.create",
      target: `bench.stitch.${count}`,
      node: `n${count}`,
      count,
      timeoutMs: LIMIT_MS,
      deadlineMs: LIMIT_MS,
      spec: { adaptor: "process", command: ANSWERS },
    },
    null,
    LIMIT_MS,
  );
  if (job.status !== "succeeded") throw new Error(`${count} stitches: ${JSON.stringify(job)}`);
  return performance.now() - beganMs;
}

/** Stops all stitches with one command, then removes them. @returns the milliseconds until every process was gone. */
async function stopped(cluster: TestCluster, count: number): Promise<number> {
  const all = async (command: "group.stop" | "group.remove") => {
    const beganMs = performance.now();
    const job = await cluster.run({ command, target: `bench.stitch.${count}`, deadlineMs: LIMIT_MS }, null, LIMIT_MS);
    if (job.status !== "succeeded") throw new Error(`${command}: ${JSON.stringify(job)}`);
    return performance.now() - beganMs;
  };
  const stopMs = await all("group.stop");
  await all("group.remove");
  return stopMs;
}

/** The memory and CPU time that the worker takes while nothing happens. */
async function kept(node: Part): Promise<{ memoryKib: number; cpuMs: number }> {
  const look = () => readProcess(node.pid) ?? { memoryBytes: Number.NaN, cpuMs: Number.NaN };
  const from = { ...look(), atMs: performance.now() };
  await new Promise((resolve) => setTimeout(resolve, IDLE_MS));
  const { memoryBytes, cpuMs } = look();
  return { memoryKib: memoryBytes / 1024, cpuMs: ((cpuMs - from.cpuMs) * 1000) / (performance.now() - from.atMs) };
}
