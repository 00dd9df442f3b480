import assert from "node:assert/strict";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, it } from "node:test";
import { dispatchId } from "../../src/domain/job/job.ts";
import type { JobResource } from "../../src/contract/job.ts";
import { Dispatcher } from "../../src/queue/dispatcher.ts";
import { redisTimeMs } from "../../src/redis/node/node-record.ts";
import { FAST, type Part, REDISES, type TestCluster, until, withCluster } from "../support/cluster.ts";

// SIGSTOP stands in for a blocked event loop: for everybody else, the process is connected and silent in both cases.

const url = REDISES[0]?.url ?? "";

/** Stops its own worker (SIGSTOP) once, in the middle of the step that starts the stitch. Exits with 0 at its next start. */
const STOPS_ITS_WORKER = {
  command: "stitch.create",
  target: "a.b.1",
  node: "n1",
  id: "once",
  spec: {
    adaptor: "process",
    protocol: "none",
    restart: { policy: "never" },
    command: ["sh", "-c", "echo started >> starts; [ -e stopped ] || { touch stopped; kill -STOP $PPID; }"],
  },
} as const;
/**
 * Notes each SIGTERM in `asks`, then stops its worker (SIGSTOP), but not in the state folder `other`. The task of a stop
 * stays in the worker's queue until the stop has ended.
 */
const STOPS_ITS_WORKER_AT_ITS_END = [
  "sh",
  "-c",
  `case $STITCH_DATA_DIR in */other/*) ;; *) trap 'echo asked >> asks; kill -STOP $PPID; exit' TERM ;; esac
  while :; do sleep 0.1; done`,
];
/** Notes each SIGTERM in `asks`, and ends when it finds the file `go`. */
const ENDS_WHEN_TOLD = ["sh", "-c", "trap 'echo asked >> asks' TERM; until [ -e go ]; do sleep 0.1; done"];

const dataFile = (cluster: TestCluster, stitch: string, name: string): string =>
  join(cluster.dir, "state-n1", cluster.name, "n1", "data", stitch, name);

/** BullMQ's entry for the job's only task. */
class Entry {
  readonly #open: TestCluster["open"];
  readonly #key: string;

  constructor({ open }: TestCluster, job: Pick<JobResource, "id">) {
    this.#open = open;
    this.#key = `${open.keys.node("n1")}:commands:${dispatchId(job.id, { id: "t0", attempt: 1 })}`;
  }

  #number = async (field: string): Promise<number> => Number(await this.#open.redis.hget(this.#key, field));
  #isLocked = async (): Promise<boolean> => (await this.#open.redis.exists(`${this.#key}:lock`)) === 1;

  /** Resolves when the worker has taken the entry and was then silent until the lock ran out: it did not renew the lock. */
  async lockLost(): Promise<void> {
    await until("it is locked", this.#isLocked);
    await until("its lock is lost", async () => !(await this.#isLocked()));
  }
  async deliveredAgain(): Promise<void> {
    await until("it was found stalled", async () => (await this.#number("stc")) > 0);
    await until("it was delivered again", async () => (await this.#number("ats")) > 1);
  }
  async finished(): Promise<void> {
    await until("BullMQ is done with it", async () => (await this.#number("finishedOn")) > 0, 30_000);
  }
}

/** Waits, by Redis's clock, until the job's deadline has passed. */
const deadlinePassed = ({ open }: TestCluster, job: JobResource) =>
  until(
    "its deadline has passed",
    async () => (await redisTimeMs(open.redis, open.keys.job(job.id))) > Date.parse(job.deadlineAt),
  );

describe("a node worker whose event loop is blocked longer than BullMQ's lock", { concurrency: 3 }, () => {
  it("P5: a task that is delivered again after the block is applied once", async () => {
    await withCluster(url, {}, async (cluster) => {
      const node = await cluster.node("n1");
      const job = await stopOne(cluster, STOPS_ITS_WORKER_AT_ITS_END);
      const entry = new Entry(cluster, job);
      await entry.lockLost();
      node.child.kill("SIGCONT");
      // Nothing reads the job meanwhile: reading would end it. So the second delivery is claimed and runs like the first.
      await entry.deliveredAgain();
      await entry.finished();
      await assertStoppedOnce(cluster, job);
      assert.equal((await cluster.master.state.node("n1")).incarnation, 1);
    });
  });

  it("P5: a task that is delivered again while it still runs is applied once, also after its deadline", async () => {
    await withCluster(url, {}, async (cluster) => {
      const { node, job, entry } = await stoppedInMidStep(cluster);
      await deadlinePassed(cluster, job);
      node.child.kill("SIGCONT");
      await entry.deliveredAgain();
      writeFileSync(dataFile(cluster, "once", "go"), "");
      await entry.finished();
      await assertStoppedOnce(cluster, job);
    });
  });

  it("P6: the job's status does not depend on BullMQ, whose queue was lost meanwhile", async () => {
    await withCluster(url, {}, async (cluster) => {
      const { node, job } = await stoppedInMidStep(cluster);
      const { redis, keys } = cluster.open;
      await new Dispatcher(redis, keys).obliterate("n1");
      node.child.kill("SIGCONT");
      writeFileSync(dataFile(cluster, "once", "go"), "");
      await cluster.master.commands.job(job.id, 60_000);
      await assertStoppedOnce(cluster, job);
    });
  });

  async function stoppedInMidStep(cluster: TestCluster): Promise<{ node: Part; job: JobResource; entry: Entry }> {
    const node = await cluster.node("n1");
    const job = await stopOne(cluster, ENDS_WHEN_TOLD, { deadlineMs: 10_000 });
    await until("it was asked to end", async () => (await cluster.master.state.stitch("once")).state === "stopping");
    node.child.kill("SIGSTOP");
    const entry = new Entry(cluster, job);
    await entry.lockLost();
    return { node, job, entry };
  }
});

describe("a node worker whose event loop is blocked longer than its lease", { concurrency: 3 }, () => {
  it("P5: registers again, and the task that it had claimed is applied once", async () => {
    await withCluster(url, FAST, async (cluster) => {
      const node = await cluster.node("n1");
      const job = await stopOne(cluster, STOPS_ITS_WORKER_AT_ITS_END);
      const entry = new Entry(cluster, job);
      await entry.lockLost();
      node.child.kill("SIGCONT");
      await entry.deliveredAgain();
      await entry.finished();
      await assertStoppedOnce(cluster, job);
      assert.ok((await cluster.master.state.node("n1")).incarnation > 1);
    });
  });

  it("P6: a job that failed because its task was unknown stays failed, and its step later shows the outcome", async () => {
    await withCluster(url, FAST, async (cluster) => {
      const node = await cluster.node("n1");
      await cluster.masterWorker();
      const ended = await cluster.run(STOPS_ITS_WORKER, null, 60_000);
      assert.deepEqual([ended.status, ended.tasks[0]?.status], ["failed", "unknown"]);
      node.child.kill("SIGCONT");
      await until("its outcome is known", async () => {
        const job = await cluster.master.commands.job(ended.id, 0);
        assert.deepEqual([job.status, job.counts.running], ["failed", 0]);
        return job.tasks[0]?.status === "succeeded";
      });
      assert.equal(readFileSync(dataFile(cluster, "once", "starts"), "utf8"), "started\n");
    });
  });

  it("P6: a job that failed because no node had claimed its task stays failed when the node is back", async () => {
    await withCluster(url, FAST, async (cluster) => {
      const node = await cluster.node("n1");
      node.child.kill("SIGSTOP");
      const { id, tasks, ...ended } = await cluster.run({ command: "node.ping", target: "n1" });
      assert.deepEqual([ended.status, ended.error?.code, tasks[0]?.status], ["failed", "node_dead", "failed"]);
      node.child.kill("SIGCONT");
      await until("it is back", async () => (await cluster.master.state.node("n1")).liveness === "alive");
      const later = await cluster.master.commands.job(id, 0);
      assert.deepEqual(
        [later.status, later.counts, later.error?.code, later.finishedAt],
        ["failed", ended.counts, "node_dead", ended.finishedAt],
      );
    });
  });

  it("starts stitches again that ended with its lease, but no stitch that had ended by itself", async () => {
    // The lease is longer than a slow machine delays a heartbeat. A late heartbeat would end the stitch too early.
    await withCluster(url, { STITCH_HEARTBEAT_MS: "500", STITCH_LEASE_MS: "6000" }, async (cluster) => {
      const node = await cluster.node("n1");
      // The pid would not show its end: the stopped worker cannot reap the process.
      const tellsItsEnd = ["sh", "-c", "trap 'touch ended; exit' TERM; while :; do sleep 0.1; done"];
      await cluster.create("n1", "needy", tellsItsEnd, { onDisconnect: "stop" });
      await cluster.create("n1", "done", ["sh", "-c", "echo started >> starts"], { restart: { policy: "never" } });
      const { pid } = await cluster.master.state.stitch("needy");
      node.child.kill("SIGSTOP");
      await until("the watchdog has ended the one", () => existsSync(dataFile(cluster, "needy", "ended")));
      node.child.kill("SIGCONT");
      await until("it runs again", async () => {
        const stitch = await cluster.master.state.stitch("needy");
        return stitch.state === "running" && stitch.pid !== pid;
      });
      const stopped = await cluster.run({ command: "stitch.stop", target: "done" });
      assert.deepEqual([stopped.status, stopped.tasks[0]?.steps[0]?.changed], ["succeeded", false]);
      assert.equal(readFileSync(dataFile(cluster, "done", "starts"), "utf8"), "started\n");
    });
  });

  it("P5, P12: once another worker has fenced it, it does not affect how that worker ends the task", async () => {
    await withCluster(url, FAST, async (cluster) => {
      const first = await cluster.node("n1");
      const job = await stopOne(cluster, STOPS_ITS_WORKER_AT_ITS_END);
      await until("it has stopped its worker", () => existsSync(dataFile(cluster, "once", "asks")));
      await cluster.node("n1", { STITCH_STATE_DIR: join(cluster.dir, "other") });
      first.child.kill("SIGCONT");
      assert.equal(await first.exited, 1);
      await new Entry(cluster, job).finished();
      const ended = await cluster.master.commands.job(job.id, 0);
      assert.equal(ended.status, "succeeded", JSON.stringify(ended));
      assert.equal((await cluster.master.state.stitch("once")).state, "stopped");
    });
  });
});

/** Creates the stitch `once` with this program and commands its stop. Does not wait for the end of the stop. */
async function stopOne(cluster: TestCluster, command: readonly string[], options: object = {}): Promise<JobResource> {
  await cluster.create("n1", "once", command, { stopGraceMs: 600_000, restart: { policy: "never" } });
  return cluster.run({ command: "stitch.stop", target: "once", ...options }, null, 0);
}

async function assertStoppedOnce(cluster: TestCluster, { id, revision }: JobResource): Promise<void> {
  const ended = await cluster.master.commands.job(id, 0);
  assert.deepEqual([ended.status, ended.tasks[0]?.steps[0]?.changed], ["succeeded", true], JSON.stringify(ended));
  const stitch = await cluster.master.state.stitch("once");
  assert.deepEqual([stitch.state, stitch.revision], ["stopped", `${revision}.0`]);
  assert.equal(readFileSync(dataFile(cluster, "once", "asks"), "utf8"), "asked\n");
}

describe("a node that comes back after the deadline of a task that it had not claimed (P6)", { concurrency: 2 }, () => {
  it("does not run the task after a block, although BullMQ delivers it", async () => {
    await withCluster(url, {}, async (cluster) => {
      const node = await cluster.node("n1");
      await cluster.create("n1", "a", ["sleep", "600"]);
      const before = await cluster.master.state.stitch("a");
      node.child.kill("SIGSTOP");
      const job = await cluster.run({ command: "stitch.stop", target: "a", deadlineMs: 500 }, null, 0);
      await deadlinePassed(cluster, job);
      node.child.kill("SIGCONT");
      await new Entry(cluster, job).finished();
      const { state, pid, revision } = await cluster.master.state.stitch("a");
      assert.deepEqual([state, pid, revision], ["running", before.pid, before.revision]);
      const ended = await cluster.master.commands.job(job.id, 0);
      assert.deepEqual([ended.status, ended.error?.code], ["expired", "expired"]);
    });
  });

  it("does not run the task after it was killed and started again", async () => {
    await withCluster(url, FAST, async (cluster) => {
      const first = await cluster.node("n1");
      await cluster.create("n1", "a", ["sleep", "600"]);
      const { revision } = await cluster.master.state.stitch("a");
      await first.kill("SIGKILL");
      const stop = { command: "stitch.stop", target: "a", waitForNode: true, deadlineMs: 500 } as const;
      const job = await cluster.run(stop, null, 0);
      await deadlinePassed(cluster, job);
      await cluster.node("n1");
      await new Entry(cluster, job).finished();
      const after = await until("it runs again", async () => {
        const stitch = await cluster.master.state.stitch("a");
        return stitch.state === "running" ? stitch : null;
      });
      assert.equal(after.revision, revision);
      assert.equal((await cluster.master.commands.job(job.id, 0)).status, "expired");
    });
  });
});
