// A node that is told to leave (P15): it ends its stitches and itself, whatever they or Redis do.
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, it } from "node:test";
import { redisTimeMs } from "../../src/redis/node/node-record.ts";
import { REDISES, until, withCluster } from "../support/cluster.ts";
import { withOwnRedis } from "../support/own-redis.ts";
import { isRunning } from "../support/process-list.ts";

const url = REDISES[0]?.url ?? "";

/** P15: from SIGTERM until the worker has ended. */
const LEFT_MS = 20_000;
/** How long it waits for tasks that it runs. */
const TASKS_MS = 10_000;
/** How late the end of a process may be seen. */
const MEASURED_MS = 500;
const AT_ONCE_MS = 2000;
/** A program that no SIGTERM ends. */
const DEAF = ["sh", "-c", "trap '' TERM; while :; do sleep 1; done"];

describe("a node that leaves", { concurrency: 4 }, () => {
  it("SIGTERM: stops its stitches, says that it left, and is not shown as dead", async () => {
    await withCluster(url, {}, async (cluster) => {
      const node = await cluster.node("n1");
      await cluster.create("n1", "a", ["sleep", "600"]);
      const { pid } = await cluster.master.state.stitch("a");
      assert.equal(await node.kill("SIGTERM"), 0);
      assert.ok(pid !== null && !isRunning(pid));
      assert.equal((await cluster.master.state.node("n1")).liveness, "left");
      const stitch = await cluster.master.state.stitch("a");
      assert.deepEqual([stitch.desired, stitch.state], ["running", "stopped"]);
      const types = (await cluster.master.state.events(null, 100)).items.map(({ type }) => type);
      assert.ok(types.includes("node.left") && !types.includes("node.dead"));
      const refused = await cluster.run({ command: "node.ping", target: "n1" });
      assert.equal(refused.error?.code, "node_left");
      await cluster.node("n1");
      await until("it is back", async () => (await cluster.master.state.stitch("a")).state === "running");
    });
  });

  it("SIGTERM: if leaving takes longer than its lease, it is not shown as dead, and reports what it finished", async () => {
    // The lease and the time until dead end well before the 8 s that a stitch may take while its node leaves.
    const lease = { STITCH_HEARTBEAT_MS: "300", STITCH_LEASE_MS: "2000", STITCH_DEAD_AFTER_MS: "1000" };
    await withCluster(url, lease, async (cluster) => {
      const node = await cluster.node("n1");
      const endsWhenTold = ["sh", "-c", "trap '' TERM; until [ -e go ]; do sleep 0.1; done"];
      await cluster.create("n1", "slow", endsWhenTold, { stopGraceMs: 600_000, restart: { policy: "never" } });
      const { id } = await cluster.run({ command: "stitch.stop", target: "slow" }, null, 0);
      await until("it stops", async () => (await cluster.master.state.stitch("slow")).state === "stopping");
      node.child.kill("SIGTERM");
      const { redis, keys } = cluster.open;
      const leaseUntilMs = Number(await redis.hget(keys.nodeMeta("n1"), "leaseUntil"));
      await until(
        "it would be dead by now",
        async () => (await redisTimeMs(redis, keys.nodeMeta("n1"))) > leaseUntilMs + 1000,
      );
      assert.equal((await cluster.master.commands.job(id, 0)).status, "running");
      writeFileSync(join(cluster.dir, "state-n1", cluster.name, "n1", "data", "slow", "go"), "");
      assert.equal(await node.exited, 0);
      assert.equal((await cluster.master.commands.job(id, 0)).status, "succeeded");
      assert.equal((await cluster.master.state.node("n1")).liveness, "left");
    });
  });

  it("SIGTERM with a step that never ends: it has left within 20 s, also while Redis hangs", async (t) => {
    await withOwnRedis(async (redis) => {
      await Promise.all(
        [url, redis.url].map((redisUrl) =>
          withCluster(redisUrl, {}, async (cluster) => {
            const node = await cluster.node("n1");
            await cluster.create("n1", "deaf", DEAF, { stopGraceMs: 600_000 });
            const { pid } = await cluster.master.state.stitch("deaf");
            const { id } = await cluster.run({ command: "stitch.stop", target: "deaf" }, null, 0);
            await until("it stops", async () => (await cluster.master.state.stitch("deaf")).state === "stopping");
            const hangs = redisUrl === redis.url;
            if (hangs) redis.now().kill("SIGSTOP");
            const startedAtMs = performance.now();
            node.child.kill("SIGTERM");
            await node.exited;
            const tookMs = Math.round(performance.now() - startedAtMs);
            if (hangs) redis.now().kill("SIGCONT");
            t.diagnostic(`it had left after ${tookMs} ms${hangs ? ", without Redis" : ""}`);
            assert.ok(tookMs <= LEFT_MS + MEASURED_MS, `it took ${tookMs} ms`);
            assert.ok(pid !== null && !isRunning(pid), "nothing of it is left");
            if (!hangs)
              assert.equal((await cluster.master.commands.job(id, 0)).status, "succeeded", "it told of its end");
          }),
        ),
      );
    });
  });

  it("a second signal ends it at once, whatever it waits for", async (t) => {
    await withCluster(url, {}, async (cluster) => {
      const node = await cluster.node("n1");
      await cluster.create("n1", "deaf", DEAF, { stopGraceMs: 600_000 });
      const { pid } = await cluster.master.state.stitch("deaf");
      node.child.kill("SIGTERM");
      await until("it is leaving", async () => (await cluster.master.state.stitch("deaf")).state === "stopping");
      // A terminal and npm may both pass the same Ctrl-C on: a second signal counts from half a second after the first.
      await new Promise((resolve) => setTimeout(resolve, 600));
      assert.deepEqual([node.child.exitCode, node.child.signalCode], [null, null]);
      const startedAtMs = performance.now();
      node.child.kill("SIGTERM");
      await node.exited;
      await until("nothing of it is left", () => pid !== null && !isRunning(pid), AT_ONCE_MS);
      const tookMs = Math.round(performance.now() - startedAtMs);
      t.diagnostic(`nothing was left after ${tookMs} ms`);
      assert.ok(tookMs <= AT_ONCE_MS, `it took ${tookMs} ms`);
    });
  });

  it("SIGTERM while Redis is away: it waits for no task, for it runs none", async (t) => {
    await withOwnRedis(async (redis) => {
      await withCluster(redis.url, {}, async (cluster) => {
        const node = await cluster.node("n1");
        await cluster.create("n1", "well", ["sleep", "600"]);
        await redis.crash();
        const startedAtMs = performance.now();
        node.child.kill("SIGTERM");
        assert.equal(await node.exited, 0);
        const tookMs = performance.now() - startedAtMs;
        t.diagnostic(`it had left after ${tookMs.toFixed()} ms`);
        assert.ok(tookMs < TASKS_MS, `${tookMs} ms`);
        await redis.back();
      });
    });
  });
});
