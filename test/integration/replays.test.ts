// A command that is sent again under its key: it is answered by the job that it has made, and does nothing to that job.
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { CommandName } from "../../src/domain/commands/command-names.ts";
import { COMMANDS } from "../../src/domain/commands/command.ts";
import { leaveNode } from "../../src/redis/node/node-lease.ts";
import { REDISES, type TestCluster, until, withCluster } from "../support/cluster.ts";
import { withOwnRedis } from "../support/own-redis.ts";
import { publishTestStitch } from "../support/publish-test-stitch.ts";
import { registerTestNode } from "../support/register-test-node.ts";

const url = REDISES[0]?.url ?? "";
const KEY = "key";

async function submit(
  { master }: TestCluster,
  body: { command: CommandName } & Record<string, unknown>,
  idempotencyKey: string | null = KEY,
  waitMs = 0,
) {
  const command = COMMANDS[body.command].schema.parse(body);
  const submitted = await master.commands.submit({ command, idempotencyKey, scope: "", by: null, waitMs });
  return submitted.kind === "job" ? submitted : assert.fail();
}

describe("a command that is sent again", () => {
  it("does not put off the next look at its job", async () => {
    await withCluster(url, {}, async (cluster) => {
      const { redis, keys } = cluster.open;
      await registerTestNode(redis, keys, "n1");
      const ping = { command: "node.ping", target: "n1" } as const;
      const { job } = await submit(cluster, ping);
      const scoreOf = async () => Number(await redis.zscore(keys.openJobs, job.id));
      const before = await scoreOf();
      const again = 5;
      for (let count = 0; count < again; count++) assert.ok((await submit(cluster, ping)).replayed);
      // Each replay makes the score a little different: that is how the request before it knows that it is not alone.
      assert.ok((await scoreOf()) - before <= 2 * again, `${(await scoreOf()) - before} ms later`);
    });
  });

  it("is answered although its stitch can no longer be read, and although another command works on its group", async () => {
    await withCluster(url, {}, async (cluster) => {
      const { redis, keys } = cluster.open;
      await registerTestNode(redis, keys, "n1");
      await publishTestStitch(cluster.open, "n1", "a", "test.stitch.1");
      const stop = { command: "stitch.stop", target: "n1:a" } as const;
      const { job } = await submit(cluster, stop);
      await redis.hset(keys.nodeStitches("n1"), "a", "no record");
      const again = await submit(cluster, stop);
      assert.deepEqual([again.replayed, again.job.id], [true, job.id]);
      const move = { command: "stitch.move", target: "n1:a", toNode: "n1" } as const;
      await assert.rejects(submit(cluster, move, "other"), { name: "UnreadableRecord" });
    });
  });

  it("is answered while Redis is full", async () => {
    await withOwnRedis(async (own) => {
      await withCluster(own.url, {}, async (cluster) => {
        const { redis, keys } = cluster.open;
        await registerTestNode(redis, keys, "n1");
        const ping = { command: "node.ping", target: "n1" } as const;
        const { job } = await submit(cluster, ping);
        await redis.config("SET", "maxmemory", "1");
        const again = await submit(cluster, ping);
        assert.deepEqual([again.replayed, again.job.id], [true, job.id]);
        await redis.config("SET", "maxmemory", "0");
        cluster.errors.length = 0;
      });
    });
  });
});

describe("a job of which a node is away", () => {
  it("ends as soon as its other nodes have answered", async () => {
    await withCluster(url, {}, async (cluster) => {
      const { redis, keys } = cluster.open;
      await cluster.node("n1");
      await cluster.create("n1", "a", ["sleep", "600"]);
      await registerTestNode(redis, keys, "n2");
      await publishTestStitch(cluster.open, "n2", "b", "test.stitch.1");
      await redis.hset(keys.nodeMeta("n2"), "leaseUntil", "1");
      await until("n2 is dead", async () => (await cluster.master.state.node("n2")).liveness === "dead");
      const load: () => unknown = Reflect.get(redis, "cs_load_job");
      let loads = 0;
      Reflect.set(redis, "cs_load_job", function (this: unknown, ...args: []): unknown {
        loads += 1;
        return Reflect.apply(load, this, args);
      });
      const stop = { command: "group.stop", target: "test.stitch.1" } as const;
      const { job } = await submit(cluster, stop, null, 20_000);
      assert.deepEqual([job.status, job.counts.succeeded, job.counts.failed], ["partial", 1, 1]);
      assert.equal(loads, 0, "what its nodes tell is enough: it is not looked at once more a second later");
    });
  });

  it("is listed as it is shown", async () => {
    await withCluster(url, {}, async (cluster) => {
      const { redis, keys } = cluster.open;
      const { session, incarnation } = await registerTestNode(redis, keys, "n1");
      const { job } = await submit(cluster, { command: "node.ping", target: "n1" }, null);
      await leaveNode(redis, keys, "n1", { session, incarnation });
      await until("it has ended", async () => (await cluster.master.commands.job(job.id, 0)).finishedAt !== null);
      const { tasks: _, ...shown } = await cluster.master.commands.job(job.id, 0);
      const [listed] = (await cluster.master.commands.jobs({ limit: 10, cursor: null }, {})).items;
      assert.deepEqual(listed, shown);
      assert.equal(listed?.error?.code, "node_left");
    });
  });
});
