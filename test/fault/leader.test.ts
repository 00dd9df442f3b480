import assert from "node:assert/strict";
import { join } from "node:path";
import { describe, it } from "node:test";
import { pause } from "../../src/bounded-wait.ts";
import type { Election } from "../../src/domain/election.ts";
import type { ChosenMaster } from "../../src/domain/master-mode.ts";
import { dispatchId, type Task } from "../../src/domain/job/job.ts";
import { StaleLeader } from "../../src/domain/election.ts";
import { Dispatcher } from "../../src/queue/dispatcher.ts";
import { createJob } from "../../src/redis/job/drafts.ts";
import { askForJob } from "../../src/redis/job/asks.ts";
import { indexOpenJob } from "../../src/redis/job/job-index.ts";
import { loadJob } from "../../src/redis/job/job-record.ts";
import { raiseAttempts, saveJob } from "../../src/redis/job/decisions.ts";
import { electLeader } from "../../src/redis/leader-lease.ts";
import { drawRevision } from "../../src/redis/revision.ts";
import { takeScopes } from "../../src/redis/job/busy.ts";
import { REDISES, type TestCluster, until, withCluster } from "../support/cluster.ts";
import { electionsUnderLoad } from "../support/elections.ts";
import { given, LEASE_MS, LED, leaderBeside, leaderOf, startMaster } from "../support/leaders.ts";
import { counting, linesIn } from "../support/counted-starts.ts";
import { pingJob } from "../support/ping-job.ts";
import { openSilentProxy } from "../support/silent-proxy.ts";

const GROUP = "shop.web.1";
const CHOSEN: ChosenMaster = { mode: "leader", preferred: null, lease: "redis" };
/** The aim, and what a busy machine adds. */
const WITHOUT_LEADER_MS = 1.5 * LEASE_MS + 3000;

/** Longer than a Master whose sweeps hang is called well: a paused one must not be taken for that. */
const PAUSED_MS = 11_000;

/** Two Masters, one of which leads, an API, a node with a group whose stitches write a line each time they start. */
async function twoMasters(cluster: TestCluster, count: number) {
  await cluster.node("n1");
  const masters = new Map(["m1", "m2"].map((id) => [id, startMaster(cluster, id)]));
  const { url } = await cluster.api();
  const leader = await leaderBeside(cluster);
  const file = join(cluster.dir, "starts");
  const create = { command: "stitch.create", target: GROUP, count, spec: counting(file) };
  assert.equal((await given(url, create, "create"))["status"], "succeeded");
  assert.equal(linesIn(file), count);
  const process = masters.get(leader.id) ?? assert.fail();
  return { url, file, leader, process };
}

for (const [isCluster, { name, url: redisUrl }] of REDISES.map((redis, index) => [index > 0, redis] as const))
  describe(`leaders on a ${name}`, { concurrency: 3 }, () => {
    for (const signal of ["SIGKILL", "SIGSTOP"] as const)
      it(`${signal} in the middle of a job of many steps: another leader ends it, and starts nothing twice`, async () => {
        await withCluster(redisUrl, LED, async (cluster) => {
          const count = 6;
          const { url, file, leader, process } = await twoMasters(cluster, count);
          const job = await given(url, { command: "group.restart", target: GROUP, batch: 1 }, "restart", 0);
          await until("it has begun", () => linesIn(file) > count);
          process.child.kill(signal);
          const atMs = Date.now();
          const next = await leaderBeside(cluster, [leader.id]);
          assert.ok(Date.now() - atMs < WITHOUT_LEADER_MS, `${Date.now() - atMs} ms without a leader`);
          const ended = await cluster.master.commands.job(String(job["id"]), 60_000);
          assert.deepEqual([ended.status, linesIn(file)], ["succeeded", 2 * count]);
          if (signal === "SIGKILL") return;
          await pause(PAUSED_MS - (Date.now() - atMs));
          // It wakes, finds that it leads no more, and is there as a candidate.
          process.child.kill("SIGCONT");
          await until(
            "it is back on the list",
            async () => (await cluster.master.state.cluster()).masters.length === 2,
          );
          const again = await given(url, { command: "group.restart", target: GROUP }, "again");
          assert.deepEqual([again["status"], again["master"]], ["succeeded", next.id]);
          assert.deepEqual([(await leaderOf(cluster))?.id, linesIn(file)], [next.id, 3 * count]);
        });
      });

    it("what a leader still does after another was elected is refused; its tasks are not applied, but sent again", async () => {
      await withCluster(redisUrl, LED, async (cluster) => {
        await cluster.node("n1");
        const { redis, keys } = cluster.open;
        const context = { redis, keys, chosen: CHOSEN };
        // A lease of one millisecond: the next candidate need not wait.
        const elected = async (holder: string, leaseMs = 1): Promise<Election> => {
          const id = crypto.randomUUID().replaceAll("-", "");
          return until(
            "it is elected",
            async () => (await electLeader(context, { id, holder, leaseMs, above: 0 }))?.election,
          );
        };
        const old = await elected("old");
        const right = { ...CHOSEN, election: old };
        const accept = async (number: number, election: Election) => {
          const record = await pingJob(cluster.open, `0000000000000000000000000${number}`);
          await askForJob(redis, keys, record.id, "ask", 10_000);
          await indexOpenJob(redis, keys, record.id, 0);
          assert.equal(await createJob(redis, keys, record, "", 0, { election, ask: "ask" }), "created");
          const task: Task = record.tasks[0] ?? assert.fail();
          return { record, task };
        };
        const { record, task } = await accept(1, old);
        const before = (await loadJob(redis, keys, record.id)) ?? assert.fail();
        const late = await accept(2, old);

        const present = await elected("present", 60_000);
        assert.ok(present.n > old.n && present.epoch === old.epoch);
        await assert.rejects(drawRevision(redis, keys, right), StaleLeader);
        await assert.rejects(takeScopes(redis, keys, right, record.id, "d", [GROUP]), StaleLeader);
        // The job that it has accepted before: what it sends now is not applied.
        const { revision, deadlineAtMs } = record;
        const dispatcher = new Dispatcher(redis, keys);
        await dispatcher.ready();
        await dispatcher.dispatch([{ job: record.id, revision, deadlineAtMs, task, election: old.id }]);
        const stale = await until("the node has found the present leader", async () => {
          const job = await cluster.master.commands.job(record.id, 0);
          const step = job.tasks[0]?.steps[0];
          return step?.error?.code === "stale_leader" ? step : null;
        });
        assert.equal(stale.status, "pending");
        // Its saves are refused once the job is taken over, whatever they are made from.
        await redis.hset(keys.job(record.id), "election", `${present.epoch} ${present.n} ${present.id}`);
        assert.equal(await saveJob(redis, keys, before, record, [], old), "changed");
        const now = (await loadJob(redis, keys, record.id)) ?? assert.fail();
        assert.equal(await raiseAttempts(redis, keys, now, [task], old), "changed");
        await redis.hset(keys.job(record.id), "election", `${old.epoch} ${old.n} ${old.id}`);

        // A task of another content under the same id is not claimed.
        const other: Task = {
          ...late.task,
          steps: [
            { action: "ping", stitch: null },
            { action: "ping", stitch: null },
          ],
        };
        await dispatcher.dispatch([{ job: late.record.id, revision, deadlineAtMs, task: other, election: old.id }]);
        const entry = keys.nodeQueue("n1", dispatchId(late.record.id, late.task));
        await until("the entry is handled", async () => (await redis.hexists(entry, "finishedOn")) === 1);
        const [step] = (await cluster.master.commands.job(late.record.id, 0)).tasks[0]?.steps ?? [];
        assert.deepEqual([step?.status, step?.error?.code], ["pending", "stale_leader"]);

        await redis.hset(keys.leaderLease, "until", "0");
        startMaster(cluster, "m1");
        for (const id of [record.id, late.record.id])
          assert.equal((await cluster.master.commands.job(id, 30_000)).status, "succeeded");
        assert.equal((await loadJob(redis, keys, record.id))?.attempts.get(task.id), 2);
      });
    });

    // On a single Redis a hundred, which takes long; a Cluster differs only in where a claim reads the election.
    const elections = isCluster ? 20 : 100;
    it(`${elections} elections under load lose no accepted job, and run none twice`, async () => {
      await withCluster(redisUrl, { ...LED, STITCH_LEADER_LEASE_MS: "1000" }, async (cluster) => {
        await electionsUnderLoad(cluster, elections);
      });
    });
  });

describe("a leader that is cut off from Redis", () => {
  it("stops deciding before another one is elected, and steps down when Redis is back", async () => {
    const [{ url: redisUrl } = { url: "" }] = REDISES;
    await withCluster(redisUrl, LED, async (cluster) => {
      await cluster.node("n1");
      const proxy = await openSilentProxy(redisUrl);
      try {
        startMaster(cluster, "m1", { REDIS_URL: proxy.url });
        await leaderBeside(cluster);
        startMaster(cluster, "m2");
        await until("both are on the list", async () => (await cluster.master.state.cluster()).masters.length === 2);
        const { url } = await cluster.api();
        proxy.fallSilent();
        const atMs = Date.now();
        const next = await leaderBeside(cluster, ["m1"]);
        assert.ok(Date.now() - atMs < WITHOUT_LEADER_MS, `${Date.now() - atMs} ms without a leader`);
        assert.equal((await given(url, { command: "node.ping", target: "n1" }, "p"))["master"], "m2");
        proxy.speak();
        await until("it is back on the list", async () => (await cluster.master.state.cluster()).masters.length === 2);
        assert.deepEqual(await leaderOf(cluster), next, "it does not take the lease from the leader");
      } finally {
        await proxy.close();
      }
    });
  });
});
