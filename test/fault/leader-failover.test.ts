import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { it } from "node:test";
import { compareOrder, type Election, StaleLeader } from "../../src/domain/election.ts";
import type { ChosenMaster } from "../../src/domain/master-mode.ts";
import type { Task } from "../../src/domain/job/job.ts";
import { Dispatcher } from "../../src/queue/dispatcher.ts";
import { askForJob } from "../../src/redis/job/asks.ts";
import { createJob } from "../../src/redis/job/drafts.ts";
import { indexOpenJob } from "../../src/redis/job/job-index.ts";
import { electLeader, readElection, renewLease } from "../../src/redis/leader-lease.ts";
import { drawRevision } from "../../src/redis/revision.ts";
import { isRedisUnavailable } from "../../src/redis/connection/connection.ts";
import { until, withCluster } from "../support/cluster.ts";
import { LED, startMaster } from "../support/leaders.ts";
import { pingJob } from "../support/ping-job.ts";
import { startLocalSentinel } from "../support/redis-sentinel.ts";

const CHOSEN: ChosenMaster = { mode: "leader", preferred: null, lease: "redis" };
const BACK_MS = 60_000;

it("a failover that loses an election: neither that one nor the one before comes back, and the order goes on", async () => {
  const dir = mkdtempSync(join(tmpdir(), "cs-leader-"));
  const sentinel = await startLocalSentinel(dir);
  try {
    await withCluster(sentinel.url, LED, async (cluster) => {
      await cluster.node("n1");
      const { redis, keys } = cluster.open;
      const context = { redis, keys, chosen: CHOSEN };
      const elected = async (holder: string): Promise<Election> => {
        const id = crypto.randomUUID().replaceAll("-", "");
        const won = await electLeader(context, { id, holder, leaseMs: 1, above: 0 });
        return won?.election ?? assert.fail();
      };
      const first = await elected("first");
      // A job that is accepted under the first election, and whose task is not sent yet.
      const record = await pingJob(cluster.open, "00000000000000000000000001");
      await askForJob(redis, keys, record.id, "ask", 10_000);
      await indexOpenJob(redis, keys, record.id, 0);
      assert.equal(await createJob(redis, keys, record, "", 0, { election: first, ask: "ask" }), "created");
      await sentinel.inStep();
      await sentinel.cutOffReplica();
      const lost = await until("the next is elected", async () => elected("lost").catch(() => null));
      assert.deepEqual([lost.epoch, lost.n], [first.epoch, first.n + 1]);
      sentinel.primary.kill("SIGKILL");
      await sentinel.failedOver();
      const lease = await until("Redis is back", () => redis.hgetall(keys.leaderLease).catch(unavailable), BACK_MS);
      assert.equal(lease["election"], first.id, "the election was lost");

      // What would happen if the replication id was not compared: the first election would count again, and the order repeat.
      const replid = /master_replid:(\w+)/.exec(await redis.info("replication"))?.[1] ?? "";
      const epoch = await redis.hget(keys.masterMode, "epoch");
      await redis.hset(keys.leaderLease, "replid", replid);
      assert.equal((await readElection(redis, keys))?.id, first.id);
      await drawRevision(redis, keys, { ...CHOSEN, election: first });
      const twin = await elected("twin");
      assert.deepEqual([compareOrder(twin, lost), twin.id === lost.id], [0, false]);
      await redis.hset(keys.leaderLease, lease);
      await redis.hset(keys.masterMode, "epoch", epoch ?? "");

      // It is compared: there is no leader, and nobody can act as one.
      assert.equal(await readElection(redis, keys), null);
      for (const election of [first, lost]) {
        assert.equal(await renewLease(context, election, 1000), false);
        await assert.rejects(drawRevision(redis, keys, { ...CHOSEN, election }), StaleLeader);
      }
      const { revision, deadlineAtMs } = record;
      const task: Task = record.tasks[0] ?? assert.fail();
      const dispatcher = new Dispatcher(redis, keys);
      await dispatcher.ready();
      await dispatcher.dispatch([{ job: record.id, revision, deadlineAtMs, task, election: first.id }]);
      await until("the node has found no leader", async () => {
        const job = await cluster.master.commands.job(record.id, 0);
        return job.tasks[0]?.steps[0]?.error?.code === "stale_leader";
      });
      const next = await elected("next");
      assert.ok(compareOrder(next, lost) > 0, "the order never goes back");
      await redis.hset(keys.leaderLease, "until", "0");
      startMaster(cluster, "m1");
      assert.equal((await cluster.master.commands.job(record.id, 30_000)).status, "succeeded");
      assert.equal((await redis.hget(keys.job(record.id), "attempt:t0")) !== null, true);
    });
  } finally {
    await sentinel.stop();
    rmSync(dir, { recursive: true, force: true });
  }
});

function unavailable(error: unknown): null {
  if (!isRedisUnavailable(error)) throw error;
  return null;
}
