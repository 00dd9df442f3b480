// `npm run soak -- MINUTES` runs this (default: 1): a cluster under steady commands, messages and deploys of new versions, on
// a Redis of its own. It prints over time what Redis holds, and fails if that keeps growing.
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type LocalRedis, startLocalRedis } from "../../src/cli/processes/local-redis.ts";
import { emitEvents } from "../../src/redis/events.ts";
import { table } from "../bench/stats.ts";
import { TestCluster, until } from "../support/cluster.ts";
import { rowOf } from "../support/key-table.ts";
import { createMail, MAIL_MODULE } from "../support/mail.ts";

const SAMPLES = 12;
/** Filled in advance, because this load would need hours: events, and the 100 entries that BullMQ keeps of each queue. */
const EVENTS = 11_000;
const PINGS = 120;
const EVERY_MS = 100;
const DEPLOY_EVERY_MS = 1500;
/** Jobs are deleted after a sixth of the run; with the default retention, a run of an hour would delete none. */
const RETENTION_SHARE = 1 / 6;
/** Master workers do their housekeeping each half minute, or a little later. */
const HOUSEKEEPING_MS = 35_000;
const GROUP = "soak.web";
const MIB = 1024 * 1024;

type Sample = { readonly atMs: number; readonly keys: number; readonly bytes: number };

const print = (line: string): void => {
  process.stdout.write(`${line}\n`);
};

/** What the cluster holds. Throws if the layout does not know a key, or knows it with another type. */
async function sample({ open: { redis }, name }: TestCluster, sinceMs: number): Promise<Sample> {
  const found = await redis.keys("*");
  const types = await Promise.all(found.map((key) => redis.type(key)));
  const strange = found.filter((key, index) => {
    const type = types[index];
    // The key may be gone by now.
    return type !== "none" && rowOf(name, key)?.types.some((known) => known === type) !== true;
  });
  if (strange.length > 0) throw new Error(`keys that the layout does not know: ${strange.slice(0, 5).join(", ")}`);
  const bytes = Number(/used_memory:(\d+)/.exec(await redis.info("memory"))?.[1]);
  return { atMs: performance.now() - sinceMs, keys: found.length, bytes };
}

/** Runs `work` again and again until `signal` aborts; rejects when it fails. */
async function repeat(everyMs: number, signal: AbortSignal, work: (n: number) => Promise<unknown>): Promise<number> {
  let done = 0;
  while (!signal.aborted) {
    const untilMs = performance.now() + everyMs;
    await work(done);
    done += 1;
    await new Promise((resolve) => setTimeout(resolve, Math.max(0, untilMs - performance.now())));
  }
  return done;
}

/** Sends a message without a key: each key is kept for ten minutes, so keys would grow all through a short run. */
async function send(url: string, message: Record<string, unknown>): Promise<void> {
  const response = await fetch(`${url}/v1/messages`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ to: { stitch: "n2:to" }, ...message }),
  });
  const text = await response.text();
  if (!response.ok) throw new Error(`a message: ${response.status} ${text}`);
}

/** Creates a version, and removes the one before. */
async function deploy(cluster: TestCluster, version: number): Promise<void> {
  const spec = { adaptor: "module", module: "mail" };
  const made = await cluster.run({ command: "stitch.create", target: `${GROUP}.v${version}`, count: 2, spec });
  if (made.status !== "succeeded") throw new Error(JSON.stringify(made));
  if (version === 0) return;
  const gone = await cluster.run({ command: "group.remove", target: `${GROUP}.v${version - 1}` });
  if (gone.status !== "succeeded") throw new Error(JSON.stringify(gone));
}

const largest = (samples: readonly Sample[], figure: "keys" | "bytes"): number =>
  Math.max(...samples.map((each) => each[figure]));

/** Redis comes to rest in the first third of the run; in the last it may hold hardly more than in the second. */
function growth(samples: readonly Sample[]): string[] {
  const third = Math.floor(samples.length / 3);
  const [second, last] = [samples.slice(third, 2 * third), samples.slice(2 * third)];
  const grown = (["keys", "bytes"] as const).filter((figure) => {
    const slack = figure === "keys" ? 20 : MIB;
    return largest(last, figure) > 1.05 * largest(second, figure) + slack;
  });
  return grown.map((figure) => `${figure}: ${largest(second, figure)} at most, then ${largest(last, figure)}`);
}

/**
 * Compares what would not visibly grow within a minute with the bounds that the layout gives.
 * @param retentionMs how long a job is kept.
 */
async function beyondBounds(cluster: TestCluster, retentionMs: number): Promise<string[]> {
  const { redis, keys } = cluster.open;
  const versions = await redis.smembers(keys.application("soak"));
  const templates = await redis.keys(keys.groupTemplate("*"));
  const outcomes = await redis.keys(keys.jobOutcomes("*", "*"));
  const lasting = (await Promise.all(outcomes.map((key) => redis.pttl(key)))).filter((ttlMs) => ttlMs === -1);
  const queued = await Promise.all(
    ["n1", "n2"].flatMap((node) => ["completed", "failed"].map((part) => redis.zcard(keys.nodeQueue(node, part)))),
  );
  const events = await Promise.all(["n1", "n2"].map((node) => redis.xlen(keys.nodeQueue(node, "events"))));
  const letters = await redis.xlen(keys.nodeDeadLetters("n2"));
  // Ten pings a second and the deploys, for the retention and one round of housekeeping.
  const mostJobs = ((retentionMs + HOUSEKEEPING_MS) / 1000) * 12;
  // The kept versions without a stitch, those with stitches, and those of one round of housekeeping.
  const mostVersions = 10 + 2 + HOUSEKEEPING_MS / DEPLOY_EVERY_MS;
  const rows: [string, number, number][] = [
    ["versions on the list", versions.length, mostVersions],
    ["templates", templates.length, mostVersions],
    ["jobs on the list", await redis.zcard(keys.recentJobs), mostJobs],
    ["outcomes for ever", lasting.length, await redis.zcard(keys.openJobs)],
    ["ended tasks of a queue", Math.max(...queued), 120],
    ["BullMQ's events of a queue", Math.max(...events), 300],
    ["events", await redis.xlen(keys.events), EVENTS],
    ["dead letters", letters, 1250],
    ["due jobs", await redis.zcard(keys.dueJobs), 1000],
  ];
  print(table([["what", "is", "may be"], ...rows.map(([what, is, most]) => [what, String(is), most.toFixed(0)])]));
  return rows.filter(([, is, most]) => is > most).map(([what, is, most]) => `${what}: ${is} of ${most}`);
}

async function soak(cluster: TestCluster, minutes: number, retentionMs: number): Promise<void> {
  const [{ url }] = await Promise.all([cluster.api(), cluster.node("n1"), cluster.node("n2"), cluster.masterWorker()]);
  await createMail(cluster, "soak.mail.1", { "n1:from": "module", "n2:to": "module" });
  const { redis, keys } = cluster.open;
  const events = Array.from(
    { length: EVENTS },
    () => ({ type: "job.ended", node: "n1", data: { filler: true } }) as const,
  );
  await emitEvents(redis, keys, events);
  for (const node of ["n1", "n2"])
    await Promise.all(Array.from({ length: PINGS }, () => cluster.run({ command: "node.ping", target: node })));
  const end = new AbortController();
  const sinceMs = performance.now();
  const load = Promise.all([
    repeat(EVERY_MS, end.signal, (n) => cluster.run({ command: "node.ping", target: `n${1 + (n % 2)}` }, null, 0)),
    repeat(EVERY_MS, end.signal, (n) => send(url, { data: `m${n}`, expect: "ack" })),
    repeat(EVERY_MS, end.signal, () => send(url, { data: "lost", channel: "fail" })),
    repeat(DEPLOY_EVERY_MS, end.signal, (n) => deploy(cluster, n)),
  ]);
  load.catch(() => end.abort());
  const everyMs = (minutes * 60_000) / SAMPLES;
  const samples: Sample[] = [];
  const rows = [["seconds", "keys", "MiB"]];
  for (let n = 1; n <= SAMPLES && !end.signal.aborted; n++) {
    await until("it is time", () => end.signal.aborted || performance.now() - sinceMs >= n * everyMs, 2 * everyMs);
    const now = await sample(cluster, sinceMs);
    samples.push(now);
    rows.push([(now.atMs / 1000).toFixed(0), String(now.keys), (now.bytes / MIB).toFixed(2)]);
    print(`${rows.at(-1)?.join("  ")}`);
  }
  end.abort();
  const [pings, acked, lost, deploys] = await load;
  print(table(rows));
  print(`${pings} pings, ${acked} messages acknowledged, ${lost} that failed, ${deploys} versions deployed.`);
  const grown = [...growth(samples), ...(await beyondBounds(cluster, retentionMs))];
  if (grown.length > 0) throw new Error(`Redis does not come to rest: ${grown.join("; ")}`);
}

const minutes = Number(process.argv[2] ?? "1");
if (!(minutes > 0 && minutes <= 24 * 60)) {
  process.stderr.write("npm run soak -- MINUTES: a number of minutes, at most a day\n");
  process.exitCode = 1;
} else {
  const dir = await mkdtemp(join(tmpdir(), "crossstitch-soak-"));
  let redis: LocalRedis | null = null;
  let cluster: TestCluster | null = null;
  try {
    redis = await startLocalRedis({ dir: join(dir, "redis"), port: 0 });
    const retentionMs = Math.ceil(minutes * 60_000 * RETENTION_SHARE);
    cluster = new TestCluster(redis.url, { ...MAIL_MODULE, STITCH_JOB_RETENTION_MS: String(retentionMs) });
    await cluster.start({ jobRetentionMs: retentionMs });
    print(`A soak of ${minutes} min: what Redis holds, in ${SAMPLES} samples.`);
    await soak(cluster, minutes, retentionMs);
    print("Redis has come to rest.");
  } catch (error) {
    process.stderr.write(`${error instanceof Error ? error.stack : String(error)}\n`);
    process.exitCode = 1;
  } finally {
    await cluster?.stop();
    await redis?.stop();
    await rm(dir, { recursive: true, force: true });
  }
}
