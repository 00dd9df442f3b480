import { join } from "node:path";
import { pause } from "../../src/bounded-wait.ts";
import { hasEtcd, withEtcd } from "../support/etcd.ts";
import { type Part, TestCluster, until } from "../support/cluster.ts";
import type { Bench } from "./bench.ts";
import { median, table } from "./stats.ts";

const MODULE = join(import.meta.dirname, "fanout-module.mjs");
const GROUP = "bench.masters.1";
const PINGS = 200;
const CLIENTS = 16;
const PINGS_EACH = 25;
/** Each wave of a restart with a batch of 1 is one stitch. */
const WAVES = 12;
/** After so many waves one Master is killed, or stopped. */
const CUT_AFTER = 3;
const LIMIT_MS = 60_000;
const LOOK_MS = 10;
/** The default. */
const LEASE_MS = 6000;

type Env = Readonly<Record<string, string>>;
const MODES: readonly { readonly name: string; readonly env: Env }[] = [
  { name: "leaderless", env: {} },
  { name: "preferred", env: { STITCH_MASTER: "preferred", STITCH_MASTER_PREFERRED: "m1" } },
  { name: "leader", env: { STITCH_MASTER: "leader", STITCH_LEADER_LEASE_MS: String(LEASE_MS) } },
];

type Measured = {
  readonly pingMs: number;
  readonly perSecond: number;
  readonly waveMs: number;
  readonly killedMs: number;
  readonly stoppedMs: number;
};

/**
 * The modes of the Masters side by side, with two Masters each: latency and throughput of a command, the time that a wave of a job of
 * many steps takes, and the longest time without a decision after the Master `m1` was killed, and after it was stopped (SIGSTOP). `m1`
 * is the preferred one, or the leader, in their modes.
 */
export async function masters(bench: Bench): Promise<void> {
  const modes = hasEtcd ? [...MODES, { name: "leader, etcd", env: MODES[2]?.env ?? {} }] : MODES;
  const all = new Map<string, Measured[]>(modes.map(({ name }) => [name, []]));
  for (let round = 0; round < bench.rounds; round++)
    for (const { name, env } of modes) {
      const measureWith = async (more: Env) => void all.get(name)?.push(await measure(bench, { ...env, ...more }));
      if (name.endsWith("etcd")) await withEtcd(({ place }) => measureWith({ STITCH_LEADER_LEASE: place }));
      else await measureWith({});
    }
  const of = (name: string, figure: keyof Measured) => median((all.get(name) ?? []).map((each) => each[figure]));
  const base = modes[0]?.name ?? "";
  const ratio = (name: string, figure: keyof Measured) => (of(name, figure) / of(base, figure)).toFixed(2);
  const rows = modes.map(({ name }) => [
    name,
    of(name, "pingMs").toFixed(2),
    ratio(name, "pingMs"),
    of(name, "perSecond").toFixed(0),
    ratio(name, "perSecond"),
    of(name, "waveMs").toFixed(0),
    ratio(name, "waveMs"),
    of(name, "killedMs").toFixed(0),
    of(name, "stoppedMs").toFixed(0),
  ]);
  bench.print(
    `masters: two of each mode; ${PINGS} pings one by one, ${CLIENTS * PINGS_EACH} by ${CLIENTS} clients at once, a restart of ` +
      `${WAVES} waves; without a decision after m1 was killed, and stopped (lease ${LEASE_MS} ms)`,
  );
  const titles = [
    "mode",
    "ping, ms p50",
    "ratio",
    "pings/s",
    "ratio",
    "wave, ms",
    "ratio",
    "killed, ms",
    "stopped, ms",
  ];
  bench.print(table([titles, ...rows]));
}

async function measure({ redisUrl, atEnd }: Bench, env: Env): Promise<Measured> {
  const cluster = await new TestCluster(redisUrl, env).start();
  atEnd(() => cluster.stop());
  try {
    return await measureIn(cluster);
  } finally {
    await cluster.stop();
  }
}

async function measureIn(cluster: TestCluster): Promise<Measured> {
  const m1 = await cluster.masterWorker({ STITCH_NODE_ID: "m1" });
  const isLed = (await cluster.master.state.cluster()).mode === "leader";
  await until("m1 leads", async () => !isLed || (await cluster.master.state.cluster()).leader === "m1");
  const m2 = cluster.part(["master"], { STITCH_NODE_ID: "m2" });
  await until("both Masters are seen", async () => (await cluster.master.state.cluster()).masters.length === 2);
  await cluster.node("n1", { STITCH_MODULES: `bench=${MODULE}` });
  const spec = { adaptor: "module", module: "bench", minHealthyMs: 0 };
  const created = await cluster.run({ command: "stitch.create", target: GROUP, count: WAVES, spec });
  if (created.status !== "succeeded") throw new Error(`create: ${created.status}`);
  const ping = () => cluster.run({ command: "node.ping", target: "n1" });
  const pings: number[] = [];
  for (let count = 0; count < PINGS; count++) {
    const fromMs = performance.now();
    await ping();
    pings.push(performance.now() - fromMs);
  }
  const fromMs = performance.now();
  const client = async () => {
    for (let count = 0; count < PINGS_EACH; count++) await ping();
  };
  await Promise.all(Array.from({ length: CLIENTS }, client));
  const perSecond = (1000 * CLIENTS * PINGS_EACH) / (performance.now() - fromMs);
  const whole = await waves(cluster, () => undefined);
  const cut = (part: Part, signal: NodeJS.Signals) =>
    waves(cluster, (count) => {
      if (count === CUT_AFTER) part.child.kill(signal);
    });
  const stopped = await cut(m1, "SIGSTOP");
  m1.child.kill("SIGKILL");
  // The one that decides now is the next to go; in the mode `preferred` it is the preferred one, which is back.
  const next = cluster.part(["master"], { STITCH_NODE_ID: isLed ? "m3" : "m1" });
  await until("the next Master is seen", async () =>
    (await cluster.master.state.cluster()).masters.some(({ id }) => id === (isLed ? "m3" : "m1")),
  );
  const killed = await cut(isLed ? m2 : next, "SIGKILL");
  return {
    pingMs: median(pings),
    perSecond,
    waveMs: whole.totalMs / WAVES,
    killedMs: killed.longestMs,
    stoppedMs: stopped.longestMs,
  };
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
    // By task and step: a task that is sent again answers once more.
    const fields = (await redis.hkeys(outcomes)).filter((field) => field.startsWith("s:"));
    const now = new Set(fields.map((field) => field.replace(/\.\d+\./, "."))).size;
    if (now === count) continue;
    longestMs = Math.max(longestMs, performance.now() - lastMs);
    lastMs = performance.now();
    for (; count < now; ) onWave(++count);
  }
  await until("the job has ended", async () => (await cluster.master.commands.job(job.id, 0)).finishedAt !== null);
  return { totalMs: lastMs - fromMs, longestMs };
}
