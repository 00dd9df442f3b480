// Master workers die between two of their writes, and others finish what they began (P1, P2).
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { COMMANDS } from "../../src/domain/commands/command.ts";
import type { CommandName } from "../../src/domain/commands/command-names.ts";
import { indexOpenJob } from "../../src/redis/job/job-index.ts";
import { REDISES, type TestCluster, until, withCluster } from "../support/cluster.ts";
import { openCuttingProxy } from "../support/cutting-proxy.ts";
import { endedByOthers, endedOnce } from "../support/ended-jobs.ts";
import { type Point, WRITES } from "../support/master-writes.ts";
import { startedTimes } from "../support/stitch-folder.ts";

const url = REDISES[0]?.url ?? "";

type Body = { command: CommandName } & Record<string, unknown>;
const CREATE: Body = {
  command: "stitch.create",
  target: "a.b.1",
  node: "n1",
  id: "once",
  spec: { adaptor: "process", protocol: "none", command: ["sh", "-c", "echo started >> starts; exec sleep 600"] },
};
const CORDON: Body = { command: "node.cordon", target: "n1" };

/** A Master accepts the command, and ends before it dispatches or claims any task. @returns the id of the job. */
async function acceptedAlone(cluster: TestCluster, body: Body): Promise<string> {
  const { redis, keys } = cluster.open;
  const proxy = await openCuttingProxy(cluster.redisUrl);
  try {
    const dying = await cluster.openMaster("dying", { redisUrl: proxy.url, onError: () => undefined });
    let isGone = false;
    const cut = proxy.cut({
      at: (words) => WRITES.dispatch(words, keys) || WRITES.claim(words, keys),
      passes: false,
      kill: () => {
        isGone = true;
        dying.close();
      },
    });
    const command = COMMANDS[body.command].schema.parse(body);
    dying.master.commands
      .submit({ command, idempotencyKey: null, scope: "", by: null, waitMs: 0 })
      .catch(() => undefined);
    await until("it has accepted, and is gone", () => isGone);
    await cut;
  } finally {
    await proxy.close();
  }
  const [id = assert.fail("nothing was accepted")] = await redis.zrange(keys.openJobs, 0, "-1");
  assert.equal(await redis.exists(keys.job(id)), 1);
  assert.equal(await redis.get(`${keys.node("n1")}:commands:id`), null, "nothing was sent to its node");
  return id;
}

/** Starts a master worker and kills it at the given point of its work. */
async function masterKilled(cluster: TestCluster, { side, write }: Point): Promise<void> {
  const { keys } = cluster.open;
  const proxy = await openCuttingProxy(cluster.redisUrl);
  try {
    const part = cluster.part(["master"], { REDIS_URL: proxy.url });
    const { child } = part;
    const cut = proxy.cut({
      at: (words) => WRITES[write](words, keys),
      passes: side === "after",
      kill: () => child.kill("SIGKILL"),
    });
    await until("it has come so far", () => child.exitCode !== null || child.signalCode !== null, 60_000);
    assert.equal(child.signalCode, "SIGKILL", part.output);
    await cut;
  } finally {
    await proxy.close();
  }
}

describe("a master worker that is killed between two writes (P1, P2)", { concurrency: 6 }, () => {
  const points: readonly Point[] = [
    { side: "before", write: "dispatch" },
    { side: "after", write: "dispatch" },
    { side: "before", write: "end" },
    { side: "after", write: "end" },
  ];
  for (const point of points) {
    it(`killed ${point.side} the ${point.write} write of a node's task: another finishes the job with one effect`, async () => {
      await withCluster(url, {}, async (cluster) => {
        await cluster.node("n1");
        const id = await acceptedAlone(cluster, CREATE);
        await masterKilled(cluster, point);
        const closed = await cluster.open.redis.hexists(cluster.open.keys.job(id), "closed");
        assert.equal(closed, point.write === "end" && point.side === "after" ? 1 : 0);
        await cluster.masterWorker();
        await endedByOthers(cluster, id);
        const job = await cluster.master.commands.job(id, 0);
        assert.equal(job.status, "succeeded", JSON.stringify(job));
        await startedTimes(cluster, 1, ["n1:once"]);
        await endedOnce(cluster);
      });
    });
  }

  const ownPoints: readonly Point[] = [
    { side: "before", write: "claim" },
    { side: "after", write: "claim" },
    { side: "after", write: "order" },
    { side: "after", write: "outcomes" },
  ];
  for (const point of ownPoints) {
    it(`killed ${point.side} the ${point.write} write of its own task: another carries the task out`, async () => {
      await withCluster(url, {}, async (cluster) => {
        await cluster.node("n1");
        const id = await acceptedAlone(cluster, CORDON);
        await masterKilled(cluster, point);
        assert.equal(await cluster.open.redis.hexists(cluster.open.keys.job(id), "closed"), 0);
        await cluster.masterWorker();
        await endedByOthers(cluster, id);
        assert.equal((await cluster.master.commands.job(id, 0)).status, "succeeded");
        assert.equal((await cluster.master.state.node("n1")).eligibility, "cordoned");
        await endedOnce(cluster);
      });
    });
  }

  it("a pointer without a record becomes no job", async () => {
    await withCluster(url, {}, async (cluster) => {
      const { redis, keys } = cluster.open;
      const id = `j${"b".repeat(26)}`;
      await indexOpenJob(redis, keys, id, 0);
      const dueAtMs = await redis.zscore(keys.openJobs, id);
      await cluster.masterWorker();
      await until("it was looked at", async () => (await redis.zscore(keys.openJobs, id)) !== dueAtMs);
      await assert.rejects(cluster.master.commands.job(id, 0), { code: "not_found" });
      assert.deepEqual((await cluster.master.commands.jobs({ cursor: null, limit: 10 }, {})).items, []);
    });
  });
});
