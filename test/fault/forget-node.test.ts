// A node is forgotten completely, or the same request can finish it later. It is never forgotten while it lives.
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { Queue } from "bullmq";
import { Redis } from "ioredis";
import { RequestError } from "../../src/domain/errors.ts";
import { QUEUE } from "../../src/redis/keys.ts";
import type { RedisClient } from "../../src/redis/connection/client.ts";
import { createInbox } from "../../src/redis/inbox/inbox.ts";
import { putMessages } from "../../src/redis/inbox/put-messages.ts";
import { leaveNode } from "../../src/redis/node/node-lease.ts";
import { FAST, REDISES, type TestCluster, until, withCluster } from "../support/cluster.ts";
import { openCuttingProxy } from "../support/cutting-proxy.ts";
import { holdBack } from "../support/hold-back.ts";
import { processesOf } from "../support/process-list.ts";
import { publishTestStitch } from "../support/publish-test-stitch.ts";
import { registerTestNode } from "../support/register-test-node.ts";

const url = REDISES[0]?.url ?? "";

const isCode = (code: string) => (error: unknown) => error instanceof RequestError && error.code === code;

const programs = async (cluster: TestCluster): Promise<string[]> =>
  (await processesOf(cluster.dir)).filter((line) => line.includes("sleep 600"));

/** A node that has left, with stitches, a message and a task. */
async function leftNode(cluster: TestCluster, id: string): Promise<void> {
  const { redis, keys } = cluster.open;
  const as = await registerTestNode(redis, keys, id);
  await createInbox(redis, keys, id, as.incarnation);
  for (const stitch of ["a", "b"]) await publishTestStitch(cluster.open, id, stitch);
  await putMessages(redis, keys, id, [{ stitch: "a", body: "{}" }]);
  await redis.hset(keys.nodeOrders(id), "eligibility", "cordoned");
  await cluster.run({ command: "node.ping", target: id }, null, 0);
  await leaveNode(redis, keys, id, as);
}

/** Forgets the node with a Master that is cut off after `commands` Redis commands. @returns whether it was cut off. */
async function forgetCutOff(cluster: TestCluster, id: string, commands: number): Promise<boolean> {
  const proxy = await openCuttingProxy(cluster.redisUrl);
  const open = await cluster.openMaster("cut-off", { redisUrl: proxy.url, onError: () => undefined });
  let left = commands;
  const wasCut = proxy.cut({
    at: () => left-- === 0,
    passes: false,
    kill: () => open.close(),
  });
  try {
    return await Promise.race([
      open.master.commands.forgetNode(id).then(
        () => false,
        () => true,
      ),
      wasCut.then(() => true),
    ]);
  } finally {
    open.close();
    await proxy.close();
  }
}

describe("forgetting a node", { concurrency: 4 }, () => {
  it("cut off after any Redis command, it is finished by the same request again", async () => {
    const raw = new Redis(url);
    try {
      await withCluster(url, {}, async (cluster) => {
        const { redis, keys } = cluster.open;
        for (let commands = 1; ; commands++) {
          const id = `n${commands}`;
          await leftNode(cluster, id);
          const wasCut = await forgetCutOff(cluster, id, commands);
          if (wasCut)
            await cluster.master.commands
              .forgetNode(id)
              .catch((error: unknown) => assert.ok(isCode("not_found")(error), String(error)));
          const rest = (await raw.keys(`cs:${cluster.name}:*`)).filter((key) => key.includes(`{node:${id}}`));
          const letters = keys.nodeDeadLetters(id);
          assert.deepEqual(
            rest.filter((key) => key !== letters).sort(),
            [keys.nodeAssigned(id), keys.nodeGone(id)],
            `after ${commands} commands`,
          );
          for (const key of [keys.nodeAssigned(id), keys.nodeGone(id)]) assert.ok((await redis.pttl(key)) > 0, key);
          assert.deepEqual(await redis.zrange(keys.nodes, 0, "-1"), []);
          assert.deepEqual(await redis.zrange(keys.nodeIds, 0, "-1"), []);
          assert.deepEqual(await redis.smembers(keys.group("shop.orders.1")), []);
          if (!wasCut) return assert.ok(commands > 10, `it took ${commands} commands`);
        }
      });
    } finally {
      raw.disconnect();
    }
  });

  for (const [what, spoil] of [
    ["is no hash", (redis: RedisClient, key: string) => redis.del(key).then(() => redis.set(key, "zzz"))],
    ["has no incarnation", (redis: RedisClient, key: string) => redis.hdel(key, "incarnation")],
    [
      "tells nothing that is a number",
      (redis: RedisClient, key: string) => redis.hset(key, { incarnation: "z", leaseUntil: "z" }),
    ],
  ] as const)
    it(`works if the node's record ${what}, and leaves nothing that disturbs a later incarnation`, async () => {
      const raw = new Redis(url);
      try {
        await withCluster(url, { STITCH_HEARTBEAT_MS: "200" }, async (cluster) => {
          const { redis, keys } = cluster.open;
          await leftNode(cluster, "n1");
          await spoil(redis, keys.nodeMeta("n1"));
          await cluster.master.commands.forgetNode("n1");
          const rest = (await raw.keys(`cs:${cluster.name}:*`)).filter((key) => key.includes("{node:n1}"));
          assert.deepEqual(rest.sort(), [keys.nodeAssigned("n1"), keys.nodeGone("n1")]);
          assert.deepEqual(await redis.zrange(keys.nodeIds, 0, "-1"), []);
        });
      } finally {
        raw.disconnect();
      }
    });

  it("Redis lost a node's record and kept its inbox: the node acknowledges what it takes from the inbox", async () => {
    await withCluster(url, { STITCH_HEARTBEAT_MS: "200" }, async (cluster) => {
      const { redis, keys } = cluster.open;
      await createInbox(redis, keys, "n1", 7);
      await putMessages(redis, keys, "n1", [{ stitch: "a", body: "{}" }]);
      await cluster.node("n1");
      await until("nothing is left in it", async () => (await redis.xlen(keys.nodeInbox("n1"))) === 0);
      assert.equal((await cluster.master.state.node("n1")).incarnation, 8);
    });
  });

  it("cut off after it paused the queue: the worker that comes back takes tasks again", async () => {
    await withCluster(url, FAST, async (cluster) => {
      const first = await cluster.node("n1");
      await first.kill("SIGTERM");
      const { keys } = cluster.open;
      const connection = new Redis(url, { maxRetriesPerRequest: null });
      try {
        await new Queue(QUEUE, { connection, prefix: keys.node("n1"), skipMetasUpdate: true }).pause();
        await cluster.node("n1");
        const ping = await cluster.run({ command: "node.ping", target: "n1", deadlineMs: 10_000 });
        assert.equal(ping.status, "succeeded", JSON.stringify(ping));
      } finally {
        connection.disconnect();
      }
    });
  });

  it("a worker that registers meanwhile keeps all its records, and is listed", async () => {
    await withCluster(url, { STITCH_HEARTBEAT_MS: "100" }, async (cluster) => {
      const first = await cluster.node("n1");
      await cluster.create("n1", "a", ["sleep", "600"]);
      await first.kill("SIGTERM");
      const ending = holdBack(cluster.open, "end_forgetting");
      const forgotten = cluster.master.commands.forgetNode("n1");
      await ending.reached;
      await cluster.node("n1");
      ending.release();
      await assert.rejects(forgotten, isCode("node_alive"));
      // Its heartbeats restore what was deleted before it registered.
      await until("it is found and listed", async () => {
        const { items } = await cluster.master.state.nodes({ limit: 10, cursor: null }, {});
        const stitch = await cluster.master.state.stitch("a").catch(() => null);
        const group = await cluster.master.state.group("test.stitch.1").catch(() => null);
        return items[0]?.id === "n1" && stitch?.state === "running" && group !== null;
      });
      const ping = await cluster.run({ command: "node.ping", target: "n1", deadlineMs: 10_000 });
      assert.equal(ping.status, "succeeded", JSON.stringify(ping));
      assert.equal((await programs(cluster)).length, 1);
    });
  });

  it("a node that has come back is listed again after a Master removed it from the lists late", async () => {
    await withCluster(url, { STITCH_HEARTBEAT_MS: "100" }, async (cluster) => {
      await cluster.node("n1");
      const { redis, keys } = cluster.open;
      await Promise.all([redis.zrem(keys.nodes, "n1"), redis.zrem(keys.nodeIds, "n1")]);
      await until("it is on both lists", async () => {
        const scores = await Promise.all([redis.zscore(keys.nodes, "n1"), redis.zscore(keys.nodeIds, "n1")]);
        return scores.every((score) => score !== null);
      });
    });
  });

  it("a stitch that moved away while the node was dead does not run there when its worker comes back", async () => {
    await withCluster(url, FAST, async (cluster) => {
      const first = await cluster.node("n1");
      await cluster.node("n2");
      // The node dies in the middle of a move: the new stitch exists, and the node cannot be asked to remove the old one.
      await cluster.create("n1", "goer", ["sleep", "600"]);
      await cluster.create("n1", "stays", ["sleep", "600"]);
      const moving = cluster.run({ command: "stitch.move", target: "goer", toNode: "n2" }, null, 0);
      const { redis, keys } = cluster.open;
      await until("it arrives", async () => (await redis.hexists(keys.nodeStitches("n2"), "goer")) === 1);
      await first.kill("SIGKILL");
      const job = await cluster.master.commands.job((await moving).id, 60_000);
      assert.equal(job.status, "succeeded", JSON.stringify(job));
      await until("it is dead", async () => (await cluster.master.state.node("n1")).liveness === "dead");
      await cluster.master.commands.forgetNode("n1");
      assert.ok((await redis.pttl(keys.nodeGone("n1"))) > 6 * 86_400_000, "the word is kept for a week");
      await cluster.node("n1");
      await until("what stays runs again", async () => (await programs(cluster)).length === 2);
      await until("it is settled", async () => (await cluster.master.state.stitch("goer")).node === "n2");
      const inN1 = (await processesOf("state-n1")).filter(
        (line) => line.includes(cluster.dir) && line.includes("sleep 600"),
      );
      assert.equal(inN1.length, 1, inN1.join("\n"));
    });
  });
});
