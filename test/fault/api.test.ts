import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { ApiUnreachable, type CommandBody, type CommandOptions, createClient } from "../../src/client/client.ts";
import { dispatchId } from "../../src/domain/job/job.ts";
import { lookAgainIn } from "../../src/redis/job/job-index.ts";
import { REDISES, type TestCluster, until, withCluster } from "../support/cluster.ts";
import { openCuttingProxy } from "../support/cutting-proxy.ts";
import { endedByOthers, endedOnce, timesEnded } from "../support/ended-jobs.ts";
import { type Point, WRITES } from "../support/master-writes.ts";
import { startedTimes } from "../support/stitch-folder.ts";
import { testJobService } from "../support/test-job-service.ts";

const url = REDISES[0]?.url ?? "";

/**
 * Sends a command to a new API and kills this API at the given point. Redis has the writes up to there. It may have answered by then:
 * what comes after the record goes on behind the answer.
 */
async function cutOff(cluster: TestCluster, { side, write }: Point, body: CommandBody, options: CommandOptions = {}) {
  const { keys } = cluster.open;
  const proxy = await openCuttingProxy(cluster.redisUrl);
  try {
    const { part, url: apiUrl } = await cluster.api({ REDIS_URL: proxy.url });
    const cut = proxy.cut({
      at: (words) => WRITES[write](words, keys),
      passes: side === "after",
      kill: () => part.child.kill("SIGKILL"),
    });
    await createClient({ url: apiUrl })
      .command(body, options)
      .catch((error: unknown) => assert.ok(error instanceof ApiUnreachable, String(error)));
    await until("it was killed", () => part.child.signalCode === "SIGKILL", 5000);
    await cut;
  } finally {
    await proxy.close();
  }
}

/** Which parts of the cluster's only job are in Redis. */
async function written({ open: { redis, keys } }: TestCluster) {
  const [id = null] = await redis.zrange(keys.openJobs, 0, "-1");
  const has = async (key: string) => id !== null && (await redis.exists(key)) === 1;
  const entry = dispatchId(id ?? "", { id: "t0", attempt: 1 });
  return {
    id,
    record: await has(keys.job(id ?? "")),
    dispatch: await has(`${keys.node("n1")}:commands:${entry}`),
  };
}

const listed = async ({ master }: TestCluster): Promise<string[]> =>
  (await master.commands.jobs({ cursor: null, limit: 10 }, {})).items.map(({ id }) => id);

const CREATE = {
  command: "stitch.create",
  target: "a.b.1",
  node: "n1",
  id: "once",
  spec: { adaptor: "process", protocol: "none", command: ["sh", "-c", "echo started >> starts; sleep 600"] },
};
/** Every point at which accepting a command can be cut off, with what Redis holds then. */
const ACCEPT: readonly (Point & { readonly leaves: { pointer: boolean; record: boolean; dispatch: boolean } })[] = [
  { side: "before", write: "pointer", leaves: { pointer: false, record: false, dispatch: false } },
  { side: "after", write: "pointer", leaves: { pointer: true, record: false, dispatch: false } },
  { side: "before", write: "record", leaves: { pointer: true, record: false, dispatch: false } },
  { side: "after", write: "record", leaves: { pointer: true, record: true, dispatch: false } },
  { side: "before", write: "dispatch", leaves: { pointer: true, record: true, dispatch: false } },
  { side: "after", write: "dispatch", leaves: { pointer: true, record: true, dispatch: true } },
];

async function assertDoneOnce(cluster: TestCluster, id: string): Promise<void> {
  const job = await cluster.master.commands.job(id, 0);
  assert.equal(job.status, "succeeded", JSON.stringify(job));
  assert.equal((await cluster.master.state.stitch("once")).revision, `${job.revision}.0`);
  await startedTimes(cluster, 1, ["n1:once"]);
  assert.deepEqual(await listed(cluster), [id], "it is the one job in the list");
  await endedOnce(cluster);
}

describe("an API that is killed between two writes while it accepts a command (P1, P2)", { concurrency: 3 }, () => {
  for (const { leaves, ...point } of ACCEPT) {
    it(`killed ${point.side} the ${point.write} write: ${leaves.record ? "a master worker finishes it" : "nothing comes of it"}`, async () => {
      await withCluster(url, {}, async (cluster) => {
        const { redis, keys } = cluster.open;
        await cluster.node("n1");
        await cutOff(cluster, point, CREATE);
        const { id, record, dispatch } = await written(cluster);
        assert.deepEqual({ pointer: id !== null, record, dispatch }, leaves);
        const dueAtMs = id === null ? null : await redis.zscore(keys.openJobs, id);
        await cluster.masterWorker();
        if (id !== null && leaves.record) {
          await endedByOthers(cluster, id);
          await assertDoneOnce(cluster, id);
          return;
        }
        if (id !== null)
          await until("it was looked after", async () => (await redis.zscore(keys.openJobs, id)) !== dueAtMs);
        assert.deepEqual(await listed(cluster), []);
        assert.equal(await redis.get(`${keys.node("n1")}:commands:id`), null, "BullMQ has counted no entry");
        await assert.rejects(cluster.master.state.stitch("once"), { code: "not_found" });
      });
    });
  }

  it("the sweep drops a pointer without a record after ten minutes", async () => {
    await withCluster(url, {}, async (cluster) => {
      const { redis, keys } = cluster.open;
      let nowMs = 0;
      const jobService = testJobService(cluster, () => nowMs);
      await cluster.node("n1");
      await cutOff(cluster, { side: "after", write: "pointer" }, CREATE);
      const { id } = await written(cluster);
      assert.ok(id !== null);
      for (const atMs of [0, 599_000, 601_000]) {
        assert.equal((await written(cluster)).id, id, "not before");
        nowMs = atMs;
        // Due at once.
        await lookAgainIn(redis, keys, id, 0);
        assert.deepEqual(await jobService.sweep(), { looked: 1, dispatched: 0, closed: 0 });
      }
      assert.equal((await written(cluster)).id, null);
    });
  });
});

describe("a command that is sent again because its API was killed (P2, P4)", { concurrency: 3 }, () => {
  for (const { leaves, ...point } of ACCEPT) {
    it(`killed ${point.side} the ${point.write} write: the command makes one job with one effect`, async () => {
      await withCluster(url, {}, async (cluster) => {
        await cluster.node("n1");
        const idempotencyKey = "k";
        await cutOff(cluster, point, CREATE, { idempotencyKey });
        const { id, record, dispatch } = await written(cluster);
        assert.deepEqual({ pointer: id !== null, record, dispatch }, leaves);
        const { url: otherUrl } = await cluster.api();
        const again = await createClient({ url: otherUrl }).command(CREATE, { idempotencyKey });
        assert.equal(again.replayed, leaves.record);
        if (id !== null) assert.equal(again.job.id, id);
        await cluster.masterWorker();
        await endedByOthers(cluster, again.job.id);
        await assertDoneOnce(cluster, again.job.id);
      });
    });
  }
});

describe("an API that is killed while it carries out a task itself (P1)", { concurrency: 3 }, () => {
  const points: readonly Point[] = [
    { side: "before", write: "claim" },
    { side: "after", write: "claim" },
    { side: "after", write: "order" },
  ];
  for (const point of points) {
    it(`killed ${point.side} the ${point.write} write: a master worker carries the task out`, async () => {
      await withCluster(url, {}, async (cluster) => {
        await cluster.node("n1");
        await cutOff(cluster, point, { command: "node.cordon", target: "n1" });
        const { id } = await written(cluster);
        assert.ok(id !== null);
        await cluster.masterWorker();
        await endedByOthers(cluster, id);
        assert.equal((await cluster.master.commands.job(id, 0)).status, "succeeded");
        assert.equal((await cluster.master.state.node("n1")).eligibility, "cordoned");
        await endedOnce(cluster);
        const told = (await cluster.master.state.events(null, 100)).items.filter(
          ({ type }) => type === "node.cordoned",
        );
        assert.equal(told.length, 1, "who carries it out again knows what it has changed");
      });
    });
  }
});

describe("an API that is killed while a client waits for the end (P1)", { concurrency: 2 }, () => {
  for (const side of ["before", "after"] as const) {
    it(`killed ${side} it writes the end: a master worker ends the job, with one job.ended event`, async () => {
      await withCluster(url, {}, async (cluster) => {
        await cluster.node("n1");
        await cutOff(cluster, { side, write: "end" }, { command: "node.ping", target: "n1" }, { waitMs: 20_000 });
        const { id, record } = await written(cluster);
        assert.ok(id !== null && record);
        assert.equal(await timesEnded(cluster), 0);
        await cluster.masterWorker();
        await endedByOthers(cluster, id);
        await endedOnce(cluster);
        assert.equal((await cluster.master.commands.job(id, 0)).status, "succeeded");
      });
    });
  }
});
