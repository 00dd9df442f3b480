import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { REDISES, until, withCluster } from "../support/cluster.ts";
import { withOwnRedis } from "../support/own-redis.ts";
import { publishTestStitch } from "../support/publish-test-stitch.ts";
import { registerTestNode } from "../support/register-test-node.ts";

const post = async (url: string, body: unknown, key = "k") => {
  const response = await fetch(`${url}/v1/commands`, {
    method: "POST",
    headers: { "Content-Type": "application/json", "Idempotency-Key": key },
    body: JSON.stringify(body),
  });
  return { response, body: (await response.json()) as Record<string, unknown> };
};

describe("Redis fails", { concurrency: 3 }, () => {
  it("P1: killed with kill -9, it loses no accepted command", async () => {
    await withOwnRedis(async (redis) => {
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
          const { finishedAt, status } = await cluster.master.commands.job(String(body["id"]), 0);
          return finishedAt === null ? null : status;
        });
        assert.equal(job, "succeeded");
        const replay = await post(url, { command: "stitch.stop", target: "a", waitForNode: true });
        assert.equal(replay.body["id"], body["id"]);
        assert.equal(replay.response.headers.get("Idempotent-Replayed"), "true");
      });
    });
  });

  it("comes back empty: the node registers again and publishes all that it has", async () => {
    await withOwnRedis(async (redis) => {
      await withCluster(redis.url, {}, async (cluster) => {
        await cluster.node("n1");
        const created = await cluster.create("n1", "a", ["sleep", "600"]);
        const before = await cluster.master.state.stitch("a");
        await cluster.open.redis.flushall();
        const after = await until(
          "the stitch is known again",
          () => cluster.master.state.stitch("a").catch(() => null),
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

  it("with another eviction policy: every part refuses it, with the reason", async () => {
    await withOwnRedis(async (redis) => {
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

for (const { name, url } of REDISES) {
  describe(`a record that cannot be read, on a ${name}`, { concurrency: 3 }, () => {
    it("of a node: lists and plans omit the node, it is reported once, and asking for the node is an error", async () => {
      await withCluster(url, {}, async (cluster) => {
        const { master, open, errors } = cluster;
        const { redis, keys } = open;
        for (const node of ["n1", "n2", "n3"]) await registerTestNode(redis, keys, node);
        await publishTestStitch(open, "n1", "a");
        await publishTestStitch(open, "n2", "b");
        const listed = async () =>
          (await master.state.nodes({ cursor: null, limit: 10 }, {})).items.map(({ id }) => id);
        const broken = [
          { key: keys.nodeMeta("n2"), field: "facts", value: "zzz", why: '"facts" in .*{node:n2}:meta is not JSON' },
          { key: keys.nodeMeta("n2"), field: "facts", value: null, why: '"facts" in .*{node:n2}:meta Invalid input' },
          { key: keys.nodeMeta("n2"), field: "status", value: "{}", why: '"status" in .*:meta \\(reserved\\) Invalid' },
          { key: keys.nodeMeta("n2"), field: "leaseUntil", value: "[1", why: '"leaseUntil" in .*:meta is not JSON' },
          { key: keys.nodeStatus("n2"), field: "load", value: "?", why: '"load" in .*{node:n2}:status is not JSON' },
          { key: keys.nodeOrders("n2"), field: "eligibility", value: "no", why: '"eligibility" in .*:orders Invalid' },
        ];
        for (const [index, { key, field, value, why }] of broken.entries()) {
          const was = await redis.hget(key, field);
          if (value === null) await redis.hdel(key, field);
          else await redis.hset(key, field, value);
          const inLog = { name: "UnreadableRecord", message: new RegExp(`of n2 cannot be read: ${why}`) };

          assert.deepEqual(await listed(), ["n1", "n3"]);
          assert.equal((await master.state.cluster()).stitches.stopped, 1);
          const stitches = (await master.state.stitches({ cursor: null, limit: 10 }, {})).items;
          assert.deepEqual(
            stitches.map(({ fullId, state }) => [fullId, state]),
            [
              ["n1:a", "stopped"],
              ["n2:b", "missing"],
            ],
          );
          const ping = { command: "node.ping", deadlineMs: 100 } as const;
          assert.equal((await cluster.run({ ...ping, target: "n1" }, null, 0)).status, "pending");
          const stop = await cluster.run({ command: "group.stop", target: "shop" }, null, 0);
          assert.deepEqual(
            stop.tasks.map(({ node, status }) => [node, status]),
            [
              ["n1", "pending"],
              ["n2", "failed"],
            ],
          );
          const spec = { adaptor: "process", protocol: "none", command: ["true"] };
          const create = await cluster.run({ command: "stitch.create", target: "a.b.1", count: 4, spec }, null, 0);
          assert.deepEqual([...new Set(create.tasks.map(({ node }) => node))].sort(), ["n1", "n3"]);

          await assert.rejects(master.state.node("n2"), inLog);
          for (const command of ["node.ping", "node.drain"] as const)
            await assert.rejects(cluster.run({ command, target: "n2" }, null, 0), inLog);
          await assert.rejects(cluster.run({ command: "stitch.move", target: "n2:b" }, null, 0), inLog);

          assert.deepEqual(errors.map(String).filter((text) => text.includes("cannot be read")).length, index + 1);
          assert.match(String(errors.at(-1)), inLog.message);
          if (was === null) await redis.hdel(key, field);
          else await redis.hset(key, field, was);
          assert.deepEqual(await listed(), ["n1", "n2", "n3"], "mended, it is there again");
        }
      });
    });

    it("of a node with a task: the job stays open, because nothing shows that the node is dead", async () => {
      await withCluster(url, {}, async (cluster) => {
        const { redis, keys } = cluster.open;
        await registerTestNode(redis, keys, "n1");
        const { id } = await cluster.run({ command: "node.ping", target: "n1" }, null, 0);
        const was = await redis.hget(keys.nodeMeta("n1"), "facts");
        await redis.hset(keys.nodeMeta("n1"), "facts", "zzz");
        assert.equal((await cluster.master.commands.job(id, 0)).status, "pending");
        await redis.hset(keys.nodeMeta("n1"), { facts: was ?? "", leaseUntil: 1 });
        assert.equal((await cluster.master.commands.job(id, 0)).status, "failed");
      });
    });

    it("of a stitch: the others are listed and counted, and asking for this stitch is an error", async () => {
      await withCluster(url, {}, async (cluster) => {
        const { master, open, errors } = cluster;
        const { redis, keys } = open;
        await registerTestNode(redis, keys, "n1");
        for (const id of ["a", "b", "c"]) await publishTestStitch(open, "n1", id);
        await redis.hset(keys.nodeStitches("n1"), "b", "{}");
        await redis.hset(keys.nodeUsage("n1"), "c", "zzz");
        for (let times = 0; times < 2; times++) {
          const { items } = await master.state.stitches({ cursor: null, limit: 10 }, {});
          assert.deepEqual(
            items.map(({ id }) => id),
            ["a", "c"],
          );
          assert.equal((await master.state.group("shop")).stitches.byState.stopped, 2);
        }
        const inLog = {
          name: "UnreadableRecord",
          message: /of n1:b cannot be read: "b" in .*{node:n1}:stitches \(id\)/,
        };
        await assert.rejects(master.state.stitch("b"), inLog);
        await assert.rejects(cluster.run({ command: "stitch.stop", target: "n1:b" }, null, 0), inLog);
        const stop = await cluster.run({ command: "group.stop", target: "shop" }, null, 0);
        assert.equal(stop.counts.total, 3, "what its node is told to stop need not be read here");
        const told = errors.filter((error) => /of n1:[bc] cannot be read/.test(String(error)));
        assert.equal(told.length, 2, "of each once");
      });
    });

    it("of a job: other jobs go on, and asking for this job is an error; an unreadable outcome counts as none", async () => {
      await withCluster(url, {}, async (cluster) => {
        const { master, open, errors } = cluster;
        const { redis, keys } = open;
        await registerTestNode(redis, keys, "n1");
        const ping = async () => (await cluster.run({ command: "node.ping", target: "n1" }, null, 0)).id;
        const [record, outcome, well] = [await ping(), await ping(), await ping()];
        await redis.hset(keys.job(record), "record", "{}");
        await redis.hset(keys.jobOutcomes(outcome, "n1"), "s:t0.1.0", "zzz");
        for (let times = 0; times < 2; times++) {
          const { items } = await master.commands.jobs({ cursor: null, limit: 10 }, {});
          assert.deepEqual(
            new Set(items.map(({ id, status }) => `${id} ${status}`)),
            new Set([`${outcome} pending`, `${well} pending`]),
          );
        }
        const told = () => errors.map(String).filter((text) => text.includes("cannot be read"));
        assert.equal(told().length, 2, "of each once");
        await assert.rejects(
          master.commands.job(record, 0),
          /cannot be read: "record" in .*:\{job.* \(id\)|cannot be read: "record"/,
        );
        assert.match(told().join(), /cannot be read: "s:t0.1.0" in .*:out:\* is not JSON/);
        for (const id of [record, outcome, well]) await redis.zadd(keys.openJobs, 1, id);
        assert.equal((await master.upkeep.sweep()).dispatched, 2, "those that can be read");
      });
    });

    it("of its own stitch: a node says so, and still registers", async () => {
      await withCluster(url, {}, async (cluster) => {
        const { redis, keys } = cluster.open;
        await redis.hset(keys.nodeStitches("n1"), "old", "zzz");
        const node = await cluster.node("n1");
        await until("it has said so", () => node.output.includes("of n1:old cannot be read"));
        await cluster.create("n1", "a", ["sleep", "600"]);
      });
    });
  });
}
