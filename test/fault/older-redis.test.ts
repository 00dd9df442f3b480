// A Redis that has lost data: an older copy was put back, or a failover lost the last writes.
import assert from "node:assert/strict";
import { join } from "node:path";
import { describe, it } from "node:test";
import { Redis } from "ioredis";
import { FAST, REDISES, type TestCluster, until, withCluster } from "../support/cluster.ts";
import { isRunning, processesOf } from "../support/process-list.ts";
import { copyKeys, restoreKeys } from "../support/redis-copy.ts";

const url = REDISES[0]?.url ?? "";
const sleeper = { adaptor: "process", protocol: "none", command: ["sleep", "600"] };

async function withRaw(work: (raw: Redis) => Promise<void>): Promise<void> {
  const raw = new Redis(url);
  try {
    await work(raw);
  } finally {
    raw.disconnect();
  }
}

const pidOf = async (cluster: TestCluster, id: string): Promise<number> =>
  until(`${id} runs`, async () => (await cluster.master.state.stitch(id).catch(() => null))?.pid);

/** The programs of a node's stitches in the process table. */
const programs = async (cluster: TestCluster, node: string): Promise<string[]> =>
  (await processesOf(`state-${node}`)).filter((line) => line.includes(cluster.dir) && line.includes("sleep 600"));

describe("a Redis that is older than its nodes", { concurrency: 3 }, () => {
  // The lease lasts far longer than the test: nothing may wait for its end.
  it("a copy from before the worker's last restart: the worker registers again, and its stitch runs on", async () => {
    await withRaw((raw) =>
      withCluster(url, {}, async (cluster) => {
        const first = await cluster.node("n1");
        await cluster.create("n1", "a", ["sleep", "600"]);
        const former = await pidOf(cluster, "n1:a");
        const copy = await copyKeys(raw, `cs:${cluster.name}:*`);
        await first.kill("SIGKILL");
        const second = await cluster.node("n1", { STITCH_HEARTBEAT_MS: "200" });
        const pid = await until("it runs again", async () => {
          const shown = await pidOf(cluster, "n1:a");
          return shown !== former && shown;
        });
        const { incarnation } = await cluster.master.state.node("n1");
        await restoreKeys(raw, `cs:${cluster.name}:*`, copy);
        await until("it has registered again", async () => {
          assert.equal(second.child.exitCode, null, second.output);
          return (await cluster.master.state.node("n1")).incarnation > incarnation;
        });
        assert.ok(isRunning(pid), "its stitch runs on");
        assert.deepEqual((await programs(cluster, "n1")).length, 1);
        await until("it is shown as it is", async () => (await cluster.master.state.stitch("n1:a")).pid === pid);
        assert.match(second.output, /Redis is older than this worker/);
        assert.equal((await cluster.run({ command: "stitch.stop", target: "a" })).status, "succeeded");
      }),
    );
  });

  it("a failover that lost only the registration: the worker keeps its id", async () => {
    await withRaw((raw) =>
      withCluster(url, {}, async (cluster) => {
        const first = await cluster.node("n1");
        await first.kill("SIGKILL");
        const { keys } = cluster.open;
        const before = await copyKeys(raw, keys.nodeMeta("n1"));
        const second = await cluster.node("n1", { STITCH_HEARTBEAT_MS: "200" });
        const { incarnation } = await cluster.master.state.node("n1");
        await restoreKeys(raw, keys.nodeMeta("n1"), before);
        await until("it has registered again", async () => {
          assert.equal(second.child.exitCode, null, second.output);
          return (await cluster.master.state.node("n1")).incarnation > incarnation;
        });
        assert.equal((await cluster.run({ command: "node.ping", target: "n1" })).status, "succeeded");
      }),
    );
  });

  it("a Redis without the node: the node publishes everything again", async () => {
    await withRaw((raw) =>
      withCluster(url, {}, async (cluster) => {
        await cluster.node("n1", { STITCH_HEARTBEAT_MS: "200" });
        await cluster.create("n1", "a", ["sleep", "600"]);
        const pid = await pidOf(cluster, "n1:a");
        await restoreKeys(raw, `cs:${cluster.name}:*`, new Map());
        assert.equal(await pidOf(cluster, "a"), pid);
        assert.equal((await cluster.run({ command: "stitch.stop", target: "a" })).status, "succeeded");
      }),
    );
  });

  it("a failover that lost a create and a removal between two heartbeats: both are published again", async () => {
    await withRaw((raw) =>
      withCluster(url, { STITCH_HEARTBEAT_MS: "4000" }, async (cluster) => {
        await cluster.node("n1");
        await cluster.create("n1", "old", ["sleep", "600"]);
        const { redis, keys } = cluster.open;
        const beats = async () => Number(await redis.hget(keys.nodeMeta("n1"), "beats"));
        const last = await beats();
        await until("it has just beaten", async () => (await beats()) > last);
        // The keys in the node's slot, and its pointers elsewhere. The rest of Redis has lost nothing.
        const patterns = [
          `${keys.node("n1")}:*`,
          keys.route("*"),
          keys.group("*"),
          keys.applications,
          `${keys.applications}:*`,
        ];
        const copies = await Promise.all(patterns.map((pattern) => copyKeys(raw, pattern)));
        const { incarnation } = await cluster.master.state.node("n1");
        const [created, removed] = await Promise.all([
          cluster.run({ command: "stitch.create", target: "test.new.1", node: "n1", id: "new", spec: sleeper }),
          cluster.run({ command: "stitch.remove", target: "n1:old" }),
        ]);
        assert.deepEqual([created.status, removed.status], ["succeeded", "succeeded"]);
        for (const [index, pattern] of patterns.entries()) await restoreKeys(raw, pattern, copies[index] ?? new Map());
        assert.equal((await cluster.master.state.stitch("n1:old")).state, "running", "it was lost");

        const pid = await pidOf(cluster, "new");
        assert.ok(isRunning(pid));
        await until("the removed one is gone again", async () => {
          const { items } = await cluster.master.state.stitches({ limit: 100, cursor: null }, {});
          return items.length === 1 && items[0]?.id === "new";
        });
        assert.equal((await cluster.master.state.node("n1")).incarnation, incarnation, "its lease was never in doubt");
        assert.deepEqual((await cluster.master.state.group("test.new.1")).stitches.byState.running, 1);
        const stopped = await cluster.run({ command: "stitch.stop", target: "new" });
        assert.equal(stopped.status, "succeeded", JSON.stringify(stopped));
        const again = await cluster.run({
          command: "stitch.create",
          target: "test.old.1",
          node: "n1",
          id: "old",
          spec: sleeper,
        });
        assert.equal(again.status, "succeeded", JSON.stringify(again));
        assert.equal((await programs(cluster, "n1")).length, 1, "the new one of that name alone");
      }),
    );
  });

  it("P12: a worker does not take another live worker for an older Redis, whatever its incarnation", async () => {
    await withRaw((raw) =>
      withCluster(url, FAST, async (cluster) => {
        const former = await cluster.node("n1");
        await former.kill("SIGKILL");
        const first = await cluster.node("n1");
        assert.equal((await cluster.master.state.node("n1")).incarnation, 2);
        first.child.kill("SIGSTOP");
        await restoreKeys(raw, `cs:${cluster.name}:*`, new Map());
        const second = await cluster.node("n1", { STITCH_STATE_DIR: join(cluster.dir, "elsewhere") });
        assert.equal((await cluster.master.state.node("n1")).incarnation, 1);
        first.child.kill("SIGCONT");
        assert.equal(await first.exited, 1, first.output);
        assert.match(first.output, /another live worker holds the id n1/);
        assert.equal(second.child.exitCode, null, second.output);
        assert.equal((await cluster.run({ command: "node.ping", target: "n1" })).status, "succeeded");
      }),
    );
  });

  it("a failover that lost pointers on other shards: they are written again", async () => {
    await withCluster(url, { STITCH_HEARTBEAT_MS: "200" }, async (cluster) => {
      await cluster.node("n1");
      await cluster.create("n1", "a", ["sleep", "600"]);
      const { redis, keys } = cluster.open;
      await Promise.all(
        [keys.route("a"), keys.group("test.stitch.1"), keys.applications, keys.application("test"), keys.nodes].map(
          (key) => redis.del(key),
        ),
      );
      await until("its bare id and its group are found", async () => {
        const found = await cluster.master.state.stitch("a").catch(() => null);
        const group = await cluster.master.state.group("test").catch(() => null);
        return found?.node === "n1" && group !== null;
      });
      await until("it is counted", async () => (await cluster.master.state.cluster()).nodes.alive === 1);

      assert.equal((await cluster.run({ command: "stitch.remove", target: "a" })).status, "succeeded");
      // As if a failover had lost their deletion.
      await Promise.all([
        redis.sadd(keys.group("test.stitch.1"), "n1:a"),
        redis.sadd(keys.receivers("test.stitch.1"), "n1:a"),
        redis.hset(keys.route("a"), "n1", "test.stitch.1"),
      ]);
      await until("pointers of a removed stitch are taken out again", async () => {
        const left = await Promise.all([
          redis.scard(keys.group("test.stitch.1")),
          redis.scard(keys.receivers("test.stitch.1")),
          redis.hlen(keys.route("a")),
        ]);
        return left.every((count) => count === 0);
      });
    });
  });
});
