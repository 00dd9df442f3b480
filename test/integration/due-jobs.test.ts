// Who learns that a part of a job has ended: the callers that wait for the job, and one Master.
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { describe, it } from "node:test";
import { COMMANDS } from "../../src/domain/commands/command.ts";
import type { CommandName } from "../../src/domain/commands/command-names.ts";
import { markJobDue, takeDueJobs, waitForDueJob } from "../../src/redis/job/due-jobs.ts";
import { connectRedis, openRedis } from "../../src/redis/connection/connection.ts";
import { Keys } from "../../src/redis/keys.ts";
import { redisTimeMs } from "../../src/redis/node/node-record.ts";
import { REDISES, type TestCluster, until, withCluster } from "../support/cluster.ts";

const LATER_MS = 3_600_000;

/** Submits a command without a wait, and keeps sweeps away. @returns the job's status once a Master has closed it. */
async function endedUnseen(
  { master, open: { redis, keys } }: TestCluster,
  body: { command: CommandName } & Record<string, unknown>,
): Promise<unknown> {
  const command = COMMANDS[body.command].schema.parse(body);
  const submitted = await master.commands.submit({ command, idempotencyKey: null, scope: "", by: null, waitMs: 0 });
  const id = submitted.kind === "job" ? submitted.job.id : assert.fail();
  const closed = await until(`${body.command} is closed`, async () => {
    await redis.zadd(keys.openJobs, "XX", Date.now() + LATER_MS, id);
    return redis.hget(keys.job(id), "closed");
  });
  return (JSON.parse(closed) as { status: unknown }).status;
}

for (const { name, url } of REDISES) {
  describe(`due jobs on a ${name}`, { concurrency: 2 }, () => {
    it("continue a command of many steps when a step has ended, without a sweep; no Master subscribes to jobs", async () => {
      await withCluster(url, {}, async (cluster) => {
        const { redis, keys } = cluster.open;
        await Promise.all([cluster.node("n1"), cluster.node("n2"), cluster.masterWorker(), cluster.masterWorker()]);
        await cluster.create("n1", "a", ["sleep", "600"]);
        assert.equal(await endedUnseen(cluster, { command: "stitch.move", target: "n1:a", toNode: "n2" }), "succeeded");
        assert.equal(await endedUnseen(cluster, { command: "stitch.move", target: "n2:a", toNode: "n1" }), "succeeded");
        assert.equal((await cluster.master.state.stitch("a")).node, "n1");
        const channels = await redis.call("PUBSUB", "CHANNELS", `cs:${cluster.name}:{job:*`);
        assert.deepEqual([channels, await redis.call("PUBSUB", "NUMPAT")], [[], 0]);
        assert.ok((await redis.pttl(keys.dueJobs)) <= 60_000);
        await until("all that was due is taken", async () => (await redis.exists(keys.dueJobs)) === 0);
      });
    });

    it("are each taken by one Master, the oldest first; without Masters they are bounded, and expire", async () => {
      const keys = new Keys(`due${randomBytes(6).toString("hex")}`);
      const redis = openRedis(url, "shared", () => undefined);
      const masters = Array.from({ length: 5 }, () => openRedis(url, "blocking", () => undefined));
      try {
        await connectRedis(redis, 10_000);
        const waiting = masters.map((master) => waitForDueJob(master, keys, 10_000));
        await Promise.all(["a", "b", "a", "c", "d", "e"].map((job) => markJobDue(redis, keys, job)));
        // A job that is marked again after a Master took it is due again.
        const taken = [...(await Promise.all(waiting)), ...(await takeDueJobs(redis, keys, 10))];
        assert.deepEqual(new Set(taken), new Set(["a", "b", "c", "d", "e"]));
        assert.ok(taken.length <= 6, taken.join());
        assert.equal(await waitForDueJob(masters[0] ?? assert.fail(), keys, 100), null);

        const jobs = Array.from({ length: 10_500 }, (_, index) => `j${index}`);
        for (const job of jobs.slice(0, 3)) await markJobDue(redis, keys, job);
        // Jobs marked in the same millisecond are taken in the order of their names.
        const markedAtMs = Number(await redis.zscore(keys.dueJobs, "j2"));
        await until("the others are marked later", async () => (await redisTimeMs(redis, keys.dueJobs)) > markedAtMs);
        await Promise.all(jobs.map((job) => markJobDue(redis, keys, job)));
        assert.equal(await redis.zcard(keys.dueJobs), 10_000);
        const ttlMs = await redis.pttl(keys.dueJobs);
        assert.ok(ttlMs > 0 && ttlMs <= 60_000, String(ttlMs));
        assert.deepEqual((await takeDueJobs(redis, keys, 3)).sort(), ["j0", "j1", "j2"]);
      } finally {
        await redis.del(keys.dueJobs);
        for (const each of [redis, ...masters]) each.disconnect();
      }
    });
  });
}
