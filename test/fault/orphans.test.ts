// What happens to stitches whose worker and watchdog were killed at the same moment (P21).
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, it, type TestContext } from "node:test";
import { readBootId } from "../../workers/node/processes/launches.ts";
import { readProcess } from "../../workers/node/processes/process-table.ts";
import { REDISES, type TestCluster, until, withCluster } from "../support/cluster.ts";
import { openCuttingProxy } from "../support/cutting-proxy.ts";
import { isRunning, processesOf } from "../support/process-list.ts";
import { addRecord, dataDirOf, logOf, recordsOf, startedTimes } from "../support/stitch-folder.ts";

const url = REDISES[0]?.url ?? "";
const MAIN = join(import.meta.dirname, "../../src/cli/main.ts");

/** Notes each start in the data folder, and notes if a process of a former start still runs: each process keeps the lock. */
const ALONE = "exec 9>lock; flock -n 9 || echo two >> two; echo $$ >> starts;";
const STITCHES = [
  { id: "mortal", processes: 1, script: `${ALONE} exec sleep 600`, onDisconnect: "stop" },
  {
    id: "bare",
    processes: 2,
    script: `exec env -i "PATH=$PATH" sh -c '${ALONE} sleep 600 & exec sleep 600'`,
    onDisconnect: "keep",
  },
  {
    id: "family",
    processes: 3,
    script: `${ALONE} setsid sh -c 'sleep 600 & wait' & wait`,
    onDisconnect: "keep",
  },
] as const;

type Owner = { session: string; formerSessions: string[]; pid: number; watchdogPid: number };

const stateOf = (cluster: TestCluster): string => join(cluster.dir, "state-n1", cluster.name, "n1");
const ownerOf = (cluster: TestCluster): Owner =>
  JSON.parse(readFileSync(join(stateOf(cluster), "owner.json"), "utf8")) as Owner;

async function pidsOf(cluster: TestCluster, id: string): Promise<number[]> {
  const lines = await processesOf(dataDirOf(cluster, "n1", id));
  return lines.map((line) => Number.parseInt(line, 10));
}

/** Kills the worker and its watchdog. Neither can react to the other's death. */
function killBoth({ pid, watchdogPid }: Owner): void {
  for (const each of [watchdogPid, pid]) process.kill(each, "SIGSTOP");
  for (const each of [watchdogPid, pid]) process.kill(each, "SIGKILL");
}

async function createStitches(cluster: TestCluster): Promise<number[]> {
  for (const { id, script, onDisconnect } of STITCHES)
    await cluster.create("n1", id, ["sh", "-c", script], { onDisconnect });
  return await allRun(cluster);
}

/** Resolves with the pids when the process table holds each stitch once. */
async function allRun(cluster: TestCluster): Promise<number[]> {
  const all: number[] = [];
  for (const { id, processes } of STITCHES)
    all.push(
      ...(await until(`${id} runs`, async () => {
        const { state } = await cluster.master.state.stitch(id);
        const pids = await pidsOf(cluster, id);
        return state === "running" && pids.length === processes && pids;
      })),
    );
  return all;
}

async function assertOnceMore(cluster: TestCluster, former: readonly number[], starts: number): Promise<void> {
  await allRun(cluster);
  assert.deepEqual(former.filter(isRunning), [], "nothing of the former life is left");
  await startedTimes(
    cluster,
    starts,
    STITCHES.map(({ id }) => `n1:${id}`),
  );
  for (const { id } of STITCHES) assert.ok(!existsSync(join(dataDirOf(cluster, "n1", id), "two")), `${id}: never two`);
}

/** A process that no stitch has started; killed after the test. */
function stranger(t: TestContext, env: Record<string, string> = {}, as: { uid?: number; gid?: number } = {}): number {
  const child = spawn("sleep", ["600"], { detached: true, stdio: "ignore", cwd: "/", env, ...as });
  t.after(async () => {
    if (child.exitCode !== null || child.signalCode !== null) return;
    child.kill("SIGKILL");
    await once(child, "exit");
  });
  return child.pid ?? assert.fail();
}

describe("a worker and its watchdog that are killed at the same moment", { concurrency: 3 }, () => {
  it("leave nothing that runs beside the next worker's stitches, and no foreign process is ended", async (t) => {
    await withCluster(url, {}, async (cluster) => {
      const worker = await cluster.node("n1");
      const orphans = await createStitches(cluster);
      const owner = ownerOf(cluster);
      killBoth(owner);
      await worker.exited;
      assert.deepEqual(orphans.map(isRunning), [true, true, true, true, true, true], "nobody has ended them");
      // This process got the pid of a process that the node had started.
      const pid = stranger(t);
      const startedAt = (readProcess(pid)?.startedAt ?? 0) - 1;
      const record = { id: "mortal", pid, startedAt, bootId: readBootId(), session: owner.session };
      addRecord(cluster, "n1", { kind: "launched", record });

      const next = await cluster.node("n1");
      await assertOnceMore(cluster, orphans, 2);
      assert.match(next.output, /ended 6 processes that a former worker of this node had left/);
      assert.ok(isRunning(pid));
      const launched = recordsOf(cluster, "n1").filter(({ kind }) => kind === "launched");
      const ended = recordsOf(cluster, "n1").filter(({ kind }) => kind === "launch ended");
      assert.equal(launched.length - ended.length, 3, "the journal holds what runs now, and no more");
    });
  });

  it("twice in a row, the second time before Redis answered: the third worker ends what both left", async (t) => {
    await withCluster(url, {}, async (cluster) => {
      const worker = await cluster.node("n1");
      const orphans = await createStitches(cluster);
      const first = ownerOf(cluster);
      killBoth(first);
      await worker.exited;

      const proxy = await openCuttingProxy(cluster.redisUrl);
      const second = cluster.part(["node"], {
        REDIS_URL: proxy.url,
        STITCH_NODE_ID: "n1",
        STITCH_ROLES: "node",
        STITCH_STATE_DIR: join(cluster.dir, "state-n1"),
      });
      const meta = cluster.open.keys.nodeMeta("n1");
      await proxy.cut({
        at: ([name = "", , , key]) => name.startsWith("eval") && key === meta,
        passes: false,
        kill: () => killBoth(ownerOf(cluster)),
      });
      await second.exited;
      await proxy.close();
      const { formerSessions } = ownerOf(cluster);
      assert.deepEqual(formerSessions, [first.session]);
      const straggler = stranger(t, { STITCH_SESSION: first.session, STITCH_ID: "mortal" });

      await cluster.node("n1");
      await assertOnceMore(cluster, [...orphans, straggler], 2);
      assert.equal(ownerOf(cluster).formerSessions.length, 2);
    });
  });

  it("leave a process that cannot be ended: until it has ended, only its own stitch does not start", {
    skip: process.getuid?.() !== 0 && "only root can start a process that the worker may not kill",
  }, async (t) => {
    await withCluster(url, { STITCH_HEARTBEAT_MS: "200" }, async (cluster) => {
      const worker = await cluster.node("n1");
      const script = `${ALONE} exec sleep 600`;
      for (const id of ["held", "other"]) await cluster.create("n1", id, ["sh", "-c", script]);
      const owner = ownerOf(cluster);
      killBoth(owner);
      await worker.exited;
      const pid = stranger(t, {}, { uid: 65_534, gid: 65_534 });
      const launch = { pid, startedAt: readProcess(pid)?.startedAt, bootId: readBootId() };
      addRecord(cluster, "n1", { kind: "launched", record: { id: "held", session: owner.session, ...launch } });

      const next = startWithoutKill(t, cluster);
      await until("the other runs", async () => (await pidsOf(cluster, "other")).some(isRunning));
      const held = await until("the cluster hears of it", async () => {
        const stitch = await cluster.master.state.stitch("held");
        return stitch.state === "backoff" && stitch;
      });
      assert.deepEqual([held.desired, held.restarts, held.pid], ["running", 0, null]);
      const says = new RegExp(`process ${pid}, which a former worker .* for held, cannot be ended \\(kill EPERM\\)`);
      await until("its log says why", () => logOf(cluster, "n1", "held").some(({ line }) => says.test(line)));
      const job = await cluster.run({ command: "stitch.start", target: "held" });
      assert.deepEqual([job.status, job.error?.code], ["failed", "spawn_failed"], JSON.stringify(job));
      assert.match(JSON.stringify(job), says);
      assert.ok(isRunning(pid));

      process.kill(pid, "SIGKILL");
      await until("it is started then", async () => (await cluster.master.state.stitch("held")).state === "running");
      await startedTimes(cluster, 2, ["n1:held"]);
      await next();
    });
  });
});

/** Starts n1 as a worker that may not kill the processes of another user. @returns a function that stops it. */
function startWithoutKill(t: TestContext, cluster: TestCluster): () => Promise<void> {
  const child = spawn("setpriv", ["--bounding-set=-kill", "--inh-caps=-kill", process.execPath, MAIN, "node"], {
    cwd: cluster.dir,
    env: cluster.env({
      STITCH_NODE_ID: "n1",
      STITCH_ROLES: "node",
      STITCH_STATE_DIR: join(cluster.dir, "state-n1"),
    }),
    stdio: "ignore",
  });
  const exited = once(child, "exit");
  const stop = async () => {
    child.kill("SIGTERM");
    await exited;
  };
  t.after(() => child.kill("SIGKILL"));
  return stop;
}
