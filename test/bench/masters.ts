import { join } from "node:path";
import { pause } from "../../src/bounded-wait.ts";
import { TestCluster, until } from "../support/cluster.ts";
import type { Bench } from "./bench.ts";
import { median, table } from "./stats.ts";

const MODULE = join(import.meta.dirname, "fanout-module.mjs");
const GROUP = "bench.masters.1";
const PINGS = 200;
/** Each wave of a restart with a batch of 1 is one stitch. */
const WAVES = 30;
/** After so many waves one Master is killed. */
const KILL_AFTER = 5;
const LIMIT_MS = 60_000;
const LOOK_MS = 10;

const MODES = [
  { name: "leaderless", env: {} },
  { name: "preferred", env: { STITCH_MASTER: "preferred", STITCH_MASTER_PREFERRED: "m1" } },
] as const;

type Measured = { readonly pingMs: number; readonly waveMs: number; readonly gapMs: number };

/**
 * The modes of the Masters side by side, with two Masters each: the latency of a command, the time that a wave of a job of many
 * steps takes, and the longest time without a decision after the Master `m1` was killed (the preferred one, in its mode).
 */
export async function masters({ redisUrl, rounds, print, atEnd }: Bench): Promise<void> {
  const all = new Map<string, Measured[]>(MODES.map(({ name }) => [name, []]));
  for (let round = 0; round < rounds; round++)
    for (const { name, env } of MODES) {
      const cluster = new TestCluster(redisUrl, env);
      atEnd(() => cluster.stop());
      all.get(name)?.push(await measure(await cluster.start()));
    }
  const of = (name: string, figure: keyof Measured) => median((all.get(name) ?? []).map((each) => each[figure]));
  const base = MODES[0].name;
  const rows = MODES.map(({ name }) => [
    name,
    of(name, "pingMs").toFixed(2),
    (of(name, "pingMs") / of(base, "pingMs")).toFixed(2),
    of(name, "waveMs").toFixed(0),
    (of(name, "waveMs") / of(base, "waveMs")).toFixed(2),
    of(name, "gapMs").toFixed(0),
  ]);
  print(`masters: two of each mode; ${PINGS} pings, a restart of ${WAVES} waves, m1 killed after ${KILL_AFTER} waves`);
  print(table([["mode", "ping, ms p50", "ratio", "wave, ms", "ratio", "without a decision, ms"], ...rows]));
}

async function measure(cluster: TestCluster): Promise<Measured> {
  const preferred = await cluster.masterWorker({ STITCH_NODE_ID: "m1" });
  cluster.part(["master"], { STITCH_NODE_ID: "m2" });
  await until("both Masters are seen", async () => (await cluster.master.state.cluster()).masters.length === 2);
  await cluster.node("n1", { STITCH_MODULES: `bench=${MODULE}` });
  const spec = { adaptor: "module", module: "bench", minHealthyMs: 0 };
  const created = await cluster.run({ command: "stitch.create", target: GROUP, count: WAVES, spec });
  if (created.status !== "succeeded") throw new Error(`create: ${created.status}`);
  const pings: number[] = [];
  for (let count = 0; count < PINGS; count++) {
    const fromMs = performance.now();
    await cluster.run({ command: "node.ping", target: "n1" });
    pings.push(performance.now() - fromMs);
  }
  const whole = await waves(cluster, () => undefined);
  const cut = await waves(cluster, (count) => {
    if (count === KILL_AFTER) preferred.child.kill("SIGKILL");
  });
  return { pingMs: median(pings), waveMs: whole.totalMs / WAVES, gapMs: cut.longestMs };
}

/** Restarts the group wave by wave. Looks at what the node has written, not at the job: reading a job may bring it forward. */
async function waves(
  cluster: TestCluster,
  onWave: (count: number) => void,
): Promise<{ readonly totalMs: number; readonly longestMs: number }> {
  const { redis, keys } = cluster.open;
  const fromMs = performance.now();
  const job = await cluster.run({ command: "group.restart", target: GROUP, batch: 1 }, null, 0);
  const outcomes = keys.jobOutcomes(job.id, "n1");
  let [count, lastMs, longestMs] = [0, fromMs, 0];
  while (count < WAVES) {
    if (performance.now() - fromMs > LIMIT_MS) throw new Error(`only ${count} of ${WAVES} waves in ${LIMIT_MS} ms`);
    await pause(LOOK_MS);
    const now = (await redis.hkeys(outcomes)).filter((field) => field.startsWith("s:")).length;
    if (now === count) continue;
    longestMs = Math.max(longestMs, performance.now() - lastMs);
    lastMs = performance.now();
    for (; count < now; ) onWave(++count);
  }
  await until("the job has ended", async () => (await cluster.master.commands.job(job.id, 0)).finishedAt !== null);
  return { totalMs: lastMs - fromMs, longestMs };
}
