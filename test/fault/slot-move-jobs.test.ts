import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, it } from "node:test";
import type { ListResource } from "../../src/contract/list.ts";
import type { JobResource } from "../../src/contract/job.ts";
import { Dispatcher } from "../../src/queue/dispatcher.ts";
import { isRedisUnavailable } from "../../src/redis/connection/connection.ts";
import { indexOpenJob } from "../../src/redis/job/job-index.ts";
import { loadJob } from "../../src/redis/job/job-record.ts";
import { closeJob, raiseAttempts, saveJob } from "../../src/redis/job/decisions.ts";
import { createJob } from "../../src/redis/job/drafts.ts";
import { claim, recordOutcomes } from "../../src/redis/job/outcomes.ts";
import { TestCluster, until } from "../support/cluster.ts";
import { withOpenSlot } from "../support/open-slot.ts";
import { pingJob, SUCCEEDED } from "../support/ping-job.ts";
import { type LocalCluster, startLocalCluster } from "../support/redis-cluster.ts";
import { dataDirOf } from "../support/stitch-folder.ts";

/** A Redis Cluster of two servers, and a CrossStitch cluster on it. */
async function withRedisCluster(work: (cluster: TestCluster, redis: LocalCluster) => Promise<void>): Promise<void> {
  const dir = mkdtempSync(join(tmpdir(), "cs-slot-"));
  const redis = await startLocalCluster({ dir, masters: 2 });
  const cluster = new TestCluster(redis.url);
  try {
    await cluster.start();
    await work(cluster, redis);
  } finally {
    await cluster.stop();
    await redis.stop();
    rmSync(dir, { recursive: true, force: true });
  }
}

const JOB = `j${"e".repeat(26)}`;
describe("while a Redis Cluster moves a job's slot", { concurrency: 2 }, () => {
  it("P6: the job is read correctly, and is neither ended, nor saved, nor sent again", async () => {
    await withRedisCluster(async ({ open }, servers) => {
      const { redis, keys } = open;
      const ping = await pingJob(open, JOB);
      const [task = assert.fail()] = ping.tasks;
      // Two nodes: one has answered; the other has not even claimed its task.
      const record = { ...ping, tasks: [task, { ...task, id: "t1", node: "n2" }] };
      await createJob(redis, keys, record, "");
      assert.equal(await claim(redis, keys, JOB, "n1", task, 1), "ok");
      const write = () => recordOutcomes(redis, keys, JOB, "n1", task, 1, new Map([[0, SUCCEEDED]]), true);
      assert.equal(await write(), true);
      const before = (await loadJob(redis, keys, JOB)) ?? assert.fail();
      assert.equal(before.outcomes.steps.size, 1);

      const isRight = async (when: string) => {
        const state = (await loadJob(redis, keys, JOB)) ?? assert.fail(when);
        assert.deepEqual({ ...state, nowMs: 0 }, { ...before, nowMs: 0 }, when);
        assert.ok(state.nowMs > before.nowMs - 1000, when);
        // Sent with commands for other slots of both servers: commands that go out together are not redirected together.
        const others = Array.from({ length: 8 }, (_, n) => redis.incr(keys.sequence(`${n}`)));
        const [again] = await Promise.all([write(), ...others]);
        assert.equal(again, true, `${when}: what is written again is taken`);
        // Also with 0 written, as the job would be read where its outcomes are not.
        for (const written of [before.written, 0]) {
          const refused = { ...before, written };
          await assert.rejects(closeJob(redis, keys, JOB, written, "failed", 1000), isRedisUnavailable, when);
          await assert.rejects(saveJob(redis, keys, refused, record, ["t1"], null), isRedisUnavailable, when);
          await assert.rejects(raiseAttempts(redis, keys, refused, [task], null), isRedisUnavailable, when);
        }
      };
      await withOpenSlot(servers, keys.job(JOB), async ({ move }) => {
        await isRight("nothing has moved");
        await move(keys.job(JOB));
        await isRight("its record has moved, what is written beside it has not");
        await move(keys.jobOutcomes(JOB, "n1"));
        await isRight("all has moved, and the slot is still open");
      });
      await withOpenSlot(servers, keys.job(JOB), async ({ move }) => {
        await move(keys.jobOutcomes(JOB, "n1"));
        await isRight("what is written beside it has moved, its record has not");
      });
      assert.deepEqual({ ...(await loadJob(redis, keys, JOB)), nowMs: 0 }, { ...before, nowMs: 0 });
      assert.equal((await closeJob(redis, keys, JOB, before.written, "failed", 60_000)).kind, "closed");
    });
  });

  it("P1, P3: the API lists and reads jobs correctly, and they end when the slot is closed", async () => {
    await withRedisCluster(async (cluster, servers) => {
      const { keys } = cluster.open;
      const { url } = await cluster.api();
      await cluster.masterWorker();
      const node = await cluster.node("n1");
      const get = async <T>(path: string): Promise<T> => {
        const response = await fetch(`${url}${path}`);
        const text = await response.text();
        assert.ok(response.ok, `${path}: ${response.status} ${text}`);
        return JSON.parse(text) as T;
      };
      const command = ["sh", "-c", "trap '' TERM; until [ -e go ]; do sleep 0.1; done; rm go"];
      for (const id of ["a", "b"]) await cluster.create("n1", id, command, { stopGraceMs: 60_000 });
      const goOn = (id: string) => writeFileSync(join(dataDirOf(cluster, "n1", id), "go"), "");
      const stopping = (id: string) =>
        until(`${id} is stopping`, async () => (await cluster.master.state.stitch(id)).state === "stopping");

      // A job of many steps, which must be saved to go on.
      const job = await cluster.run({ command: "group.restart", target: "test.stitch.1", batch: 1 }, null, 0);
      await stopping("a");
      await withOpenSlot(servers, keys.job(job.id), async ({ move }) => {
        for (const moved of [null, keys.job(job.id), keys.jobOutcomes(job.id, "n1")]) {
          if (moved !== null) await move(moved);
          const { items } = await get<ListResource<JobResource>>("/v1/jobs?limit=100");
          assert.deepEqual([items.length, items[0]?.id, items[0]?.status], [3, job.id, "running"]);
          const read = await get<JobResource>(`/v1/jobs/${job.id}?waitMs=100`);
          assert.deepEqual([read.status, read.counts.running], ["running", 1]);
          const steps = await get<ListResource<unknown>>(`/v1/jobs/${job.id}/steps`);
          assert.equal(steps.items.length, read.counts.total);
        }
        goOn("a");
        const told = await until("what the node has done is read", async () => {
          const read = await get<JobResource>(`/v1/jobs/${job.id}`);
          return read.counts.succeeded === 1 && read;
        });
        assert.deepEqual([told.status, told.finishedAt], ["running", null]);
        assert.equal((await cluster.master.state.stitch("b")).state, "running", "nothing is sent that is not recorded");
      });
      await stopping("b");
      await withOpenSlot(servers, keys.job(job.id), async ({ move }) => {
        await move(keys.jobOutcomes(job.id, "n1"));
        goOn("b");
        const told = await until("all is done", async () => {
          const read = await get<JobResource>(`/v1/jobs/${job.id}`);
          return read.counts.succeeded === read.counts.total && read;
        });
        assert.deepEqual([told.status, told.finishedAt], ["running", null]);
      });
      assert.equal((await get<JobResource>(`/v1/jobs/${job.id}?waitMs=20000`)).status, "succeeded");
      // Its stitches would take long to stop.
      await node.kill("SIGKILL");
    });
  });

  it("P1: a node's queue takes nothing while its slot moves; jobs recorded meanwhile run when it is closed", async () => {
    await withRedisCluster(async (cluster, servers) => {
      const { redis, keys } = cluster.open;
      await cluster.masterWorker();
      await cluster.node("n1");
      const record = await pingJob(cluster.open, JOB);
      const { id, revision, deadlineAtMs, tasks } = record;
      const [task = assert.fail()] = tasks;
      const dispatcher = new Dispatcher(redis, keys);
      await dispatcher.ready();
      await withOpenSlot(servers, keys.node("n1"), async () => {
        await assert.rejects(dispatcher.dispatch([{ job: id, revision, deadlineAtMs, task }]), isRedisUnavailable);
        await createJob(redis, keys, record, "");
        await indexOpenJob(redis, keys, id, 1);
        await until("a sweep has tried", async () => Number(await redis.zscore(keys.openJobs, id)) > 1);
      });
      assert.equal((await cluster.master.commands.job(id, 60_000)).status, "succeeded");
    });
  });
});
