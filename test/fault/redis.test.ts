import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, it } from "node:test";
import { type LocalRedis, startLocalRedis } from "../../src/cli/local-redis.ts";
import { createJob, indexOpenJob } from "../../src/redis/job-record.ts";
import { REDISES, until, withCluster } from "../support/cluster.ts";
import { isRunning } from "../support/process-list.ts";
import { pingJob } from "../support/ping-job.ts";

/** A Redis of the test's own, to be hurt; it comes back on the same port with what it had on disk. */
async function withRedis(
  work: (redis: { url: string; crash(): Promise<void>; back(): Promise<void>; now(): LocalRedis }) => Promise<void>,
) {
  const dir = mkdtempSync(join(tmpdir(), "cs-redis-"));
  let redis = await startLocalRedis({ dir, port: 0 });
  const { url } = redis;
  const port = Number(new URL(url).port);
  try {
    await work({
      url,
      now: () => redis,
      crash: async () => {
        redis.kill("SIGKILL");
        await until("Redis is gone", () => !isRunning(redis.pid), 5000);
        await redis.stop();
      },
      back: async () => {
        redis = await startLocalRedis({ dir, port });
      },
    });
  } finally {
    await redis.stop();
    rmSync(dir, { recursive: true, force: true });
  }
}

const post = async (url: string, body: unknown, key = "k") => {
  const startedAtMs = performance.now();
  const response = await fetch(`${url}/v1/commands`, {
    method: "POST",
    headers: { "Content-Type": "application/json", "Idempotency-Key": key },
    body: JSON.stringify(body),
  });
  return {
    response,
    body: (await response.json()) as Record<string, unknown>,
    tookMs: performance.now() - startedAtMs,
  };
};

describe("Redis fails", { concurrency: 3 }, () => {
  it("P1: killed with kill -9, it loses nothing that was accepted", async () => {
    await withRedis(async (redis) => {
      await withCluster(redis.url, {}, async (cluster) => {
        const { url } = await cluster.api();
        await cluster.masterWorker();
        const node = await cluster.node("n1");
        await cluster.create("n1", "a", ["sleep", "600"]);
        await node.kill("SIGKILL");
        const { response, body } = await post(url, { command: "stitch.stop", target: "a", waitForNode: true });
        assert.equal(response.status, 202);
        await redis.crash();
        await redis.back();
        await until("the API reaches Redis", async () => (await fetch(`${url}/readyz`)).ok, 10_000);
        await cluster.node("n1");
        const job = await until("the job has ended", async () => {
          const { finishedAt, status } = await cluster.master.job(String(body["id"]), 0);
          return finishedAt === null ? null : status;
        });
        assert.equal(job, "succeeded");
        const replay = await post(url, { command: "stitch.stop", target: "a", waitForNode: true });
        assert.equal(replay.body["id"], body["id"]);
        assert.equal(replay.response.headers.get("Idempotent-Replayed"), "true");
      });
    });
  });

  it("P3: stopped or hung, every answer comes within 3 s and says so; P17: then work resumes", async () => {
    await withRedis(async (redis) => {
      await withCluster(redis.url, {}, async (cluster) => {
        const { url } = await cluster.api();
        await cluster.node("n1");
        await cluster.create("n1", "a", ["sleep", "600"]);
        const { pid } = await cluster.master.stitch("a");
        const refuses = async (when: string) => {
          const { response, body, tookMs } = await post(url, { command: "node.ping", target: "n1" });
          assert.deepEqual([response.status, body["code"], body["retryable"]], [503, "redis_unavailable", true], when);
          assert.ok(response.headers.get("Retry-After"));
          // 3 s are promised. Without the deadline it would be 15 s; between the two, a loaded machine may be slow.
          assert.ok(tookMs < 10_000, `${when}: ${tookMs} ms`);
          const read = await fetch(`${url}/v1/nodes`);
          assert.equal(read.status, 503, when);
          await read.body?.cancel();
        };
        redis.now().kill("SIGSTOP");
        await refuses("hung");
        redis.now().kill("SIGCONT");
        await until("it answers again", async () => (await fetch(`${url}/v1/nodes`)).ok, 10_000);
        await redis.crash();
        await refuses("stopped");
        assert.ok(pid !== null && isRunning(pid), "its stitches run on");
        await redis.back();
        const ping = () => post(`${url}`, { command: "node.ping", target: "n1" }, `again-${Math.random()}`);
        await until("commands are accepted", async () => (await ping()).response.ok, 5000);
        await until(
          "the node is alive",
          () =>
            // This process's own connection comes back in its own time.
            cluster.master.node("n1").then(
              ({ liveness }) => liveness === "alive",
              () => false,
            ),
          10_000,
        );
        assert.equal((await cluster.run({ command: "node.ping", target: "n1" })).status, "succeeded");
        assert.equal((await cluster.master.stitch("a")).pid, pid, "the same process");
      });
    });
  });

  it("comes back empty: the node registers again and publishes its whole truth", async () => {
    await withRedis(async (redis) => {
      await withCluster(redis.url, {}, async (cluster) => {
        await cluster.node("n1");
        const created = await cluster.create("n1", "a", ["sleep", "600"]);
        const before = await cluster.master.stitch("a");
        await cluster.open.redis.flushall();
        const after = await until(
          "the stitch is known again",
          () => cluster.master.stitch("a").catch(() => null),
          10_000,
        );
        assert.deepEqual([after.pid, after.revision, after.state], [before.pid, before.revision, "running"]);
        const stopped = await cluster.run({ command: "stitch.stop", target: "a" });
        assert.equal(stopped.status, "succeeded");
        assert.ok(
          Number(stopped.revision) > Number(created.revision),
          "the counter was raised to what the node had seen",
        );
      });
    });
  });

  it("with another eviction policy it is refused, with the reason", async () => {
    await withRedis(async (redis) => {
      await withCluster(redis.url, {}, async (cluster) => {
        await cluster.open.redis.config("SET", "maxmemory-policy", "allkeys-lru");
        for (const role of ["api", "master", "node"]) {
          const part = cluster.part([role], { STITCH_PORT: "0" });
          assert.equal(await part.exited, 1);
          assert.match(part.output, /maxmemory-policy allkeys-lru.*noeviction/s, role);
        }
      });
    });
  });
});

describe("a Master that dies between two writes (P2)", { concurrency: 2 }, () => {
  const url = REDISES[0]?.url ?? "";

  it("after the record: another finishes the dispatch; before it: nothing happens", async () => {
    await withCluster(url, {}, async (cluster) => {
      await cluster.node("n1");
      const { redis, keys } = cluster.open;
      const [recorded, pointerOnly] = [`j${"a".repeat(26)}`, `j${"b".repeat(26)}`];
      await indexOpenJob(redis, keys, pointerOnly, Date.now());
      await indexOpenJob(redis, keys, recorded, Date.now());
      await createJob(redis, keys, await pingJob(cluster.open, recorded), "hash");
      await cluster.masterWorker();
      assert.equal((await cluster.master.job(recorded, 60_000)).status, "succeeded");
      await assert.rejects(cluster.master.job(pointerOnly, 0), /There is no job/);
    });
  });

  it("after the outcome: another closes the job", async () => {
    await withCluster(url, {}, async (cluster) => {
      await cluster.node("n1");
      const job = await cluster.run({ command: "node.ping", target: "n1" }, null, 0);
      await cluster.masterWorker();
      await until(
        "it is closed and out of the index",
        async () => (await cluster.open.redis.zcard(cluster.open.keys.openJobs)) === 0,
      );
      assert.equal((await cluster.master.job(job.id, 0)).status, "succeeded");
      const ended = (await cluster.master.events(null, 100)).items.filter(({ type }) => type === "job.ended");
      assert.equal(ended.length, 1);
    });
  });
});
