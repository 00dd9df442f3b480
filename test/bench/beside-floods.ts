import { readFileSync } from "node:fs";
import { join } from "node:path";
import { readProcess } from "../../workers/node/processes/process-table.ts";
import { type TestCluster, until } from "../support/cluster.ts";
import { ms, quantile, times } from "./stats.ts";

const FLOODS = [0, 1, 20];
const BEAT_MS = 100;
const BEATS = 100;
const WARM_UP = 10;
const LIMIT_MS = 60_000;

/** Answers heartbeats and writes down when each came. */
const CLOCK = `
  const { appendFileSync } = require("node:fs");
  require("node:readline").createInterface({ input: process.stdin }).on("line", (line) => {
    if (!line.startsWith("{")) return;
    const { Id, ChannelName } = JSON.parse(line);
    if (ChannelName === "_exit") process.exit();
    appendFileSync("beats", performance.now() + "\\n");
    process.stdout.write(JSON.stringify({ Command: "sync", Id }) + "\\nend\\n");
  });`;

/** How late heartbeats reach a stitch while others print `yes` without end, and the CPU share of the worker meanwhile. */
export async function besideFloods(cluster: TestCluster): Promise<string[][]> {
  const node = await cluster.node("floods");
  const cpuMs = () => readProcess(node.pid)?.cpuMs ?? Number.NaN;
  const rows = [["heartbeats", "late p50 ms", "late p99 ms", "p50 ratio", "p99 ratio", "CPU of the worker"]];
  let base: readonly number[] | null = null;
  for (const floods of FLOODS) {
    const ids = Array.from({ length: floods }, (_, index) => `yes-${floods}-${index}`);
    await Promise.all(ids.map((id) => cluster.create("floods", id, ["yes"])));
    const clock = `clock-${floods}`;
    await cluster.create("floods", clock, [process.execPath, "-e", CLOCK], {
      protocol: "process-v1",
      heartbeatMs: BEAT_MS,
    });
    const file = join(cluster.dir, "state-floods", cluster.name, "floods", "data", clock, "beats");
    const beats = () => readFileSync(file, "utf8").trimEnd().split("\n").map(Number);
    await until("it has warmed up", () => beats().length > WARM_UP, LIMIT_MS);
    const from = { beats: beats().length, cpuMs: cpuMs(), atMs: performance.now() };
    await until("enough heartbeats", () => beats().length >= from.beats + BEATS, LIMIT_MS);
    const share = (cpuMs() - from.cpuMs) / (performance.now() - from.atMs);
    const late = lateness(beats().slice(from.beats));
    base ??= late;
    rows.push([
      floods === 0 ? "alone" : `beside ${floods} x yes`,
      ...late.map(ms),
      ...late.map((value, index) => times(value / (base?.[index] ?? Number.NaN))),
      `${(100 * share).toFixed(1)} %`,
    ]);
    await Promise.all([clock, ...ids].map((target) => cluster.run({ command: "stitch.remove", target })));
  }
  return rows;
}

/** How late each heartbeat came, counted from the one before it plus the interval: the median and the 99th percentile. */
function lateness(atMs: readonly number[]): number[] {
  const late = atMs.slice(1).map((at, index) => Math.max(0, at - (atMs[index] ?? at) - BEAT_MS));
  return [0.5, 0.99].map((q) => quantile(late, q));
}
