import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, it, type TestContext } from "node:test";
import { Dispatcher } from "../../src/queue/dispatcher.ts";
import { createJob } from "../../src/redis/job/drafts.ts";
import { readProcesses } from "../../workers/node/processes/process-table.ts";
import { FAST, REDISES, type TestCluster, until, withCluster } from "../support/cluster.ts";
import { openCuttingProxy } from "../support/cutting-proxy.ts";
import { isRunning, processesOf } from "../support/process-list.ts";
import { dataDirOf, startedTimes } from "../support/stitch-folder.ts";
import { ANSWERS } from "../support/stitch-programs.ts";
import { pingJob } from "../support/ping-job.ts";

const [standalone] = REDISES;
const url = standalone?.url ?? "";

/** P8: from the start of a worker until its commands and stitches are resumed. */
const BACK_MS = 10_000;

/** A shell with a child. It writes the pid of the child into its data folder. */
const WITH_CHILD = ["sh", "-c", "sleep 600 & echo $! > child.pid; wait"];

/**
 * Starts n1 again, and fails if it has not resumed in time. The time that the machine needs to start a worker at this moment
 * does not count: that is how long a new node, started beside n1, takes to be in the cluster.
 */
async function resumesInTime<T>(t: TestContext, cluster: TestCluster, resumed: () => Promise<T>): Promise<T> {
  const startedAtMs = performance.now();
  const sinceMs = () => Math.round(performance.now() - startedAtMs);
  const [[back, tookMs], freshMs] = await Promise.all([
    cluster
      .node("n1")
      .then(resumed)
      .then((found) => [found, sinceMs()] as const),
    cluster.node("fresh").then(sinceMs),
  ]);
  t.diagnostic(`back after ${tookMs} ms; a new node takes ${freshMs} ms`);
  assert.ok(tookMs <= BACK_MS + freshMs, `back after ${tookMs} ms; a new node takes ${freshMs} ms`);
  return back;
}

describe("a node worker that dies", { concurrency: 3 }, () => {
  it("P21: kill -9 leaves no stitch and no grandchild", async () => {
    await withCluster(url, {}, async (cluster) => {
      const node = await cluster.node("n1");
      await cluster.create("n1", "family", WITH_CHILD);
      const { pid } = await cluster.master.state.stitch("family");
      const file = join(dataDirOf(cluster, "n1", "family"), "child.pid");
      const child = await until("it has a child", () => existsSync(file) && Number(readFileSync(file, "utf8")));
      assert.ok(pid !== null && isRunning(pid) && isRunning(child));
      await node.kill("SIGKILL");
      await until("the stitch is gone", () => !isRunning(pid));
      await until("its child is gone", () => !isRunning(child));
    });
  });

  it("P21: after kill -9, a process that left its process group is found by its session and ended", async () => {
    await withCluster(url, {}, async (cluster) => {
      const node = await cluster.node("n1");
      const file = join(dataDirOf(cluster, "n1", "runaway"), "child.pid");
      await cluster.create("n1", "runaway", ["sh", "-c", "setsid sleep 600 & echo $! > child.pid; wait"]);
      const child = await until("its child leads a group of its own", async () => {
        const pid = existsSync(file) ? Number(readFileSync(file, "utf8")) : 0;
        return (await readProcesses())?.some((row) => row.pid === pid && row.group === pid) === true && pid;
      });
      await node.kill("SIGKILL");
      await until("the runaway is gone", () => !isRunning(child));
    });
  });

  for (const registered of [false, true])
    it(`P8: killed while it registers (${registered ? "as Redis has taken it" : "before Redis hears of it"}), it is back at once`, async () => {
      await withCluster(url, {}, async (cluster) => {
        const first = await cluster.node("n1");
        const { redis, keys } = cluster.open;
        const incarnations = async () => Number(await redis.hget(keys.nodeMeta("n1"), "incarnation"));
        await first.kill("SIGKILL");
        for (let lives = 1; lives <= 2; lives++) {
          const proxy = await openCuttingProxy(cluster.redisUrl);
          const former = await incarnations();
          await redis.zrem(keys.nodes, "n1");
          const killed = cluster.part(["node"], {
            REDIS_URL: proxy.url,
            STITCH_NODE_ID: "n1",
            STITCH_ROLES: "node",
            STITCH_STATE_DIR: join(cluster.dir, "state-n1"),
          });
          const cut = proxy.cut({
            at: ([name = "", , , key]) => name.startsWith("eval") && key === keys.nodeMeta("n1"),
            passes: registered,
            kill: () => killed.child.kill("SIGKILL"),
          });
          await killed.exited;
          await cut;
          await proxy.close();
          assert.equal((await incarnations()) - former, registered ? 1 : 0, killed.output);
          assert.notEqual(await redis.zscore(keys.nodes, "n1"), null, "it is counted before it can be read");
        }
        const back = await cluster.node("n1");
        assert.doesNotMatch(back.output, /another worker/);
      });
    });

  it("P8, P21: kill -9 with ten stitches: no process survives, and all ten run again with their data", async (t) => {
    await withCluster(url, {}, async (cluster) => {
      const first = await cluster.node("n1");
      // Each notes its starts in its data folder, and has a child with a child of its own.
      const command = ["sh", "-c", `echo "$STITCH_ID" >> lives; sh -c 'sleep 600 & wait' & ${ANSWERS[2]}`];
      const spec = { adaptor: "process", protocol: "process-v1", command };
      const target = "test.family.1";
      const created = await cluster.run({ command: "stitch.create", target, node: "n1", count: 10, spec });
      assert.equal(created.status, "succeeded", JSON.stringify(created));
      const ids = created.stitches.map((id) => id.split(":")[1] ?? "");
      await cluster.create("n1", "rests", ["sleep", "600"]);
      await cluster.run({ command: "stitch.stop", target: "rests" });
      const pids = async () =>
        (await processesOf(join(cluster.dir, "state-n1"))).map((line) => Number.parseInt(line, 10));
      await until("all have their children", async () => (await pids()).length === 30);
      const before = await pids();
      const lives = () => ids.map((id) => readFileSync(join(dataDirOf(cluster, "n1", id), "lives"), "utf8"));
      assert.deepEqual(
        lives(),
        ids.map((id) => `${id}\n`),
      );

      await first.kill("SIGKILL");
      await until("nothing of them is left", () => !before.some(isRunning));
      await resumesInTime(t, cluster, () =>
        until("all ten run again", async () => {
          const { items } = await cluster.master.state.stitches({ limit: 100, cursor: null }, { group: target });
          const back = items.filter(
            ({ state, health, pid }) => state === "running" && health === "green" && pid !== null,
          );
          return back.length === 10 && (await pids()).length === 30;
        }),
      );
      assert.deepEqual(
        lives(),
        ids.map((id) => `${id}\n${id}\n`),
        "each once more, in the folder it had",
      );
      assert.equal((await cluster.master.state.stitch("rests")).state, "stopped");
    });
  });

  it("P8: takes its id back at once, and resumes its stitches and commands", async (t) => {
    await withCluster(url, {}, async (cluster) => {
      const first = await cluster.node("n1");
      await cluster.create("n1", "runs", ["sleep", "600"]);
      await cluster.create("n1", "rests", ["sleep", "600"]);
      await cluster.run({ command: "stitch.stop", target: "rests" });
      const { pid } = await cluster.master.state.stitch("runs");
      await first.kill("SIGKILL");
      // Sent while nobody is there to take it.
      const ping = cluster.run({ command: "node.ping", target: "n1" }, null, 60_000);
      const back = await resumesInTime(t, cluster, async () => {
        assert.equal((await ping).status, "succeeded");
        return until("it runs again", async () => {
          const stitch = await cluster.master.state.stitch("runs");
          return stitch.state === "running" && stitch.pid !== pid ? stitch : null;
        });
      });
      assert.equal((await cluster.master.state.node("n1")).incarnation, 2);
      assert.ok(back.pid !== null && isRunning(back.pid));
      assert.equal((await cluster.master.state.stitch("rests")).state, "stopped");
    });
  });

  it("P5: killed in mid-step, it finishes the step once after its restart", async () => {
    await withCluster(url, {}, async (cluster) => {
      const first = await cluster.node("n1");
      await cluster.masterWorker();
      const { id } = await cluster.run(
        {
          command: "stitch.create",
          target: "a.b.1",
          id: "slow",
          spec: { adaptor: "process", protocol: "none", command: ["sh", "-c", "echo started >> starts; sleep 600"] },
        },
        "once",
        0,
      );
      await until("it is starting", () =>
        cluster.master.state.stitch("slow").then(
          (stitch) => stitch.state === "starting",
          () => false,
        ),
      );
      await startedTimes(cluster, 1, ["n1:slow"]);
      await first.kill("SIGKILL");
      await cluster.node("n1");
      const job = await cluster.master.commands.job(id, 60_000);
      assert.equal(job.status, "succeeded", JSON.stringify(job));
      const stitch = await cluster.master.state.stitch("slow");
      assert.equal(stitch.state, "running");
      assert.equal(stitch.revision, `${job.revision}.0`);
      // Each worker has started it once, and the redelivery did not start it again.
      await startedTimes(cluster, 2, ["n1:slow"]);
    });
  });

  it("P5: a task that it cannot claim in Redis is delivered again until it can", async () => {
    await withCluster(url, {}, async (cluster) => {
      await cluster.node("n1");
      const { redis, keys } = cluster.open;
      const id = `j${"c".repeat(26)}`;
      // A key of another type where the job belongs: every attempt fails until that key is gone.
      await redis.set(keys.job(id), "in the way");
      const record = await pingJob(cluster.open, id);
      const task = record.tasks[0] ?? assert.fail();
      await new Dispatcher(redis, keys).dispatch([
        { job: id, revision: record.revision, deadlineAtMs: record.deadlineAtMs, task },
      ]);
      await until("it failed at least twice", async () => {
        const made = await redis.hget(`${keys.node("n1")}:commands:${id}.t0.1`, "atm");
        return Number(made) >= 2;
      });
      await redis.del(keys.job(id));
      await createJob(redis, keys, record, "");
      assert.equal((await cluster.master.commands.job(id, 60_000)).status, "succeeded");
    });
  });

  it("P6: if it stays away, a task that it had claimed is unknown, and one that nobody had claimed has failed", async () => {
    await withCluster(url, FAST, async (cluster) => {
      const node = await cluster.node("n1");
      await cluster.masterWorker();
      await cluster.create("n1", "deaf", ["sh", "-c", "trap '' TERM; while :; do sleep 1; done"], {
        stopGraceMs: 60_000,
      });
      const taken = await cluster.run({ command: "stitch.stop", target: "deaf" }, null, 0);
      await until("it is taken up", async () => (await cluster.master.commands.job(taken.id, 0)).counts.running === 1);
      node.child.kill("SIGSTOP");
      const waiting = await cluster.run({ command: "node.ping", target: "n1" }, null, 0);
      await node.kill("SIGKILL");
      const ended = await cluster.master.commands.job(taken.id, 60_000);
      assert.deepEqual([ended.status, ended.tasks[0]?.status, ended.error?.code], ["failed", "unknown", "node_dead"]);
      const never = await cluster.master.commands.job(waiting.id, 60_000);
      assert.deepEqual([never.status, never.error?.code], ["failed", "node_dead"]);
      const refused = await cluster.run({ command: "node.ping", target: "n1" });
      assert.deepEqual([refused.status, refused.error?.code], ["failed", "node_dead"]);
      assert.equal((await cluster.master.state.stitch("deaf")).state, "missing");
    });
  });

  it("P6: a cancelled or expired task never runs, also when its node comes back", async () => {
    await withCluster(url, FAST, async (cluster) => {
      const first = await cluster.node("n1");
      await cluster.masterWorker();
      await cluster.create("n1", "a", ["sleep", "600"]);
      await first.kill("SIGKILL");
      const stop = { command: "stitch.stop", target: "a", waitForNode: true } as const;
      const expired = await cluster.run({ ...stop, deadlineMs: 300 }, null, 60_000);
      assert.deepEqual([expired.status, expired.error?.code], ["expired", "expired"]);
      const open = await cluster.run(stop, null, 0);
      const cancelled = await cluster.master.commands.cancel(open.id);
      assert.deepEqual([cancelled.status, cancelled.error?.code], ["cancelled", "cancelled"]);
      const kept = await cluster.run({ command: "node.ping", target: "n1", waitForNode: true }, null, 0);
      await cluster.node("n1");
      assert.equal(
        (await cluster.master.commands.job(kept.id, 60_000)).status,
        "succeeded",
        "what was waiting for the node runs",
      );
      await until("it runs again", async () => (await cluster.master.state.stitch("a")).state === "running");
      assert.equal((await cluster.master.commands.job(expired.id, 0)).status, "expired");
    });
  });
});

describe("two workers with one id (P12)", { concurrency: 3 }, () => {
  it("refuses a second worker in the same folder, also while the first one hangs", async () => {
    await withCluster(url, {}, async (cluster) => {
      const first = await cluster.node("n1");
      const settings = { STITCH_NODE_ID: "n1", STITCH_ROLES: "node", STITCH_STATE_DIR: join(cluster.dir, "state-n1") };
      const second = cluster.part(["node"], settings);
      assert.equal(await second.exited, 1);
      assert.match(second.output, /another worker \(process \d+\) lives in/);
      first.child.kill("SIGSTOP");
      const third = cluster.part(["node"], settings);
      assert.equal(await third.exited, 1);
      assert.equal((await cluster.master.state.node("n1")).incarnation, 1);
    });
  });

  it("refuses one in another folder after a lease in which the first lived on, and says so", async () => {
    // The second waits this long for a heartbeat of the first.
    await withCluster(url, { ...FAST, STITCH_LEASE_MS: "5000" }, async (cluster) => {
      await cluster.node("n1");
      const second = cluster.part(["node"], {
        STITCH_NODE_ID: "n1",
        STITCH_ROLES: "node",
        STITCH_STATE_DIR: join(cluster.dir, "other"),
      });
      assert.equal(await second.exited, 1);
      assert.match(second.output, /waiting \d+ ms for its lease/);
      assert.match(second.output, /another live worker holds the id n1/);
    });
  });

  it("fences a worker that was paused too long: its stitches stop, and it ends", async () => {
    await withCluster(url, FAST, async (cluster) => {
      const first = await cluster.node("n1");
      await cluster.create("n1", "a", ["sleep", "600"]);
      const { pid } = await cluster.master.state.stitch("a");
      first.child.kill("SIGSTOP");
      const second = await cluster.node("n1", { STITCH_STATE_DIR: join(cluster.dir, "other") });
      assert.ok((await cluster.master.state.node("n1")).incarnation > 1);
      first.child.kill("SIGCONT");
      assert.equal(await first.exited, 1);
      assert.match(first.output, /another worker has taken the id n1/);
      await until("its stitch is gone", () => pid !== null && !isRunning(pid));
      assert.equal((await cluster.run({ command: "node.ping", target: "n1" })).status, "succeeded");
      assert.equal(second.child.exitCode, null);
      const taken = await until("the last word is the new worker's", async () => {
        const stitch = await cluster.master.state.stitch("a");
        return stitch.state === "running" ? stitch : null;
      });
      assert.ok(taken.pid !== null && taken.pid !== pid && isRunning(taken.pid));
    });
  });
});

describe("a node that leaves (P15)", { concurrency: 3 }, () => {});
