// What a node runs when Redis does not have its specs, or does not know what it was assigned.
import assert from "node:assert/strict";
import { readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, it } from "node:test";
import { Redis } from "ioredis";
import type { AdoptedResource } from "../../src/contract/node.ts";
import { checkedFetch } from "../support/checked-fetch.ts";
import { FAST, REDISES, type TestCluster, until, withCluster } from "../support/cluster.ts";
import { processesOf } from "../support/process-list.ts";
import { copyKeys, restoreKeys } from "../support/redis-copy.ts";
import { withOwnRedis } from "../support/own-redis.ts";
import { runStitch } from "../unit/cli/run-stitch.ts";

const url = REDISES[0]?.url ?? "";
const SLEEPS = ["sleep", "600"];

const runningPid = (cluster: TestCluster, id: string, but: number | null = null): Promise<number> =>
  until(`${id} runs`, async () => {
    const { state, pid } = await cluster.master.state.stitch(id).catch(() => ({ state: null, pid: null }));
    return state === "running" && pid !== but && pid;
  });

const refused = (cluster: TestCluster, command: "stitch.clone" | "stitch.move", target: string) =>
  assert.rejects(cluster.run({ command, target }), { code: "spec_unknown", message: /stitch adopt n1/ });

/** The folder of the specs on a node's disk. */
const ownSpecs = (cluster: TestCluster, node: string): string =>
  join(cluster.dir, `state-${node}`, cluster.name, node, "specs");

const adopted = async (cluster: TestCluster, api: string): Promise<AdoptedResource> => {
  const response = await checkedFetch(`${api}/v1/nodes/n1/adopt`, { method: "POST" });
  assert.equal(response.status, 200);
  assert.deepEqual(cluster.errors, []);
  return (await response.json()) as AdoptedResource;
};

/** The settings of a worker whose start the test waits for by itself. */
const alone = ({ dir }: TestCluster): Record<string, string> => ({
  STITCH_NODE_ID: "n1",
  STITCH_ROLES: "node",
  STITCH_STATE_DIR: join(dir, "state-n1"),
});

/** The pids of the stitches' programs in the process table. */
const programs = async ({ dir }: TestCluster): Promise<number[]> =>
  (await processesOf(dir)).filter((line) => /\bsleep \d00\b/.test(line)).map((line) => Number.parseInt(line, 10));

describe("a spec that Redis does not have", { concurrency: 3 }, () => {
  it("a Redis that came back empty: the node uses its own specs, and its stitches are copied only once adopted", async () => {
    await withOwnRedis(async (redis) => {
      await withCluster(redis.url, FAST, async (cluster) => {
        const { redis: client, keys } = cluster.open;
        const first = await cluster.node("n1");
        await cluster.node("n2");
        await cluster.create("n1", "a", SLEEPS);
        const { specHash } = await cluster.master.state.stitch("a");
        const raw = new Redis(redis.url);
        await raw.flushall().finally(() => raw.disconnect());
        const pid = await runningPid(cluster, "n1:a");
        await until("the spec is offered", async () => (await client.hexists(keys.nodeSpecs("n1"), specHash)) === 1);
        const shown = await cluster.master.state.stitch("n1:a");
        assert.deepEqual(shown.spec?.adaptor === "process" && shown.spec.command, SLEEPS);
        await refused(cluster, "stitch.clone", "n1:a");
        await refused(cluster, "stitch.move", "n1:a");
        const scale = { command: "group.scale", target: "test.stitch.1", count: 2 } as const;
        await assert.rejects(cluster.run(scale), { code: "spec_unknown" });
        const spread = await cluster.run({ command: "group.rebalance", target: "test.stitch.1" });
        assert.deepEqual([spread.status, spread.stitches], ["succeeded", []]);
        assert.equal((await cluster.run({ command: "stitch.restart", target: "n1:a" })).status, "succeeded");

        assert.equal(await first.kill("SIGTERM"), 0);
        await cluster.node("n1");
        const again = await runningPid(cluster, "n1:a", pid);
        await refused(cluster, "stitch.clone", "n1:a");

        await until("it is offered again", async () => (await client.hexists(keys.nodeSpecs("n1"), specHash)) === 1);
        const api = (await cluster.api()).url;
        const { code, stdout } = await runStitch(["adopt", "n1"], { STITCH_URL: api });
        assert.deepEqual([code, stdout], [0, "n1:a\n"]);
        assert.equal(await client.exists(keys.nodeSpecs("n1")), 0, "what is in the store is offered no more");
        const clone = await cluster.run({ command: "stitch.clone", target: "n1:a", toNode: "n2" });
        const move = await cluster.run({ command: "stitch.move", target: "n1:a", minHealthyMs: 0, toNode: "n2" });
        assert.deepEqual([clone.status, move.status], ["succeeded", "succeeded"], JSON.stringify([clone, move]));
        assert.notEqual(await runningPid(cluster, "n2:a"), again);
        assert.deepEqual(await adopted(cluster, api), { node: "n1", adopted: [], unknown: [] });
      });
    });
  });

  it("a Redis that is older: a stitch created after the copy is copied only once adopted, all others as before", async () => {
    await withCluster(url, { STITCH_HEARTBEAT_MS: "200" }, async (cluster) => {
      const raw = new Redis(url);
      try {
        await cluster.node("n1");
        await cluster.create("n1", "before", SLEEPS);
        const copy = await copyKeys(raw, `cs:${cluster.name}:*`);
        await cluster.create("n1", "after", ["sleep", "601"]);
        const { incarnation } = await cluster.master.state.node("n1");
        const pids = await Promise.all(["before", "after"].map((id) => runningPid(cluster, id)));
        await restoreKeys(raw, `cs:${cluster.name}:*`, copy);
        await until("n1 has noticed", async () => (await cluster.master.state.node("n1")).incarnation > incarnation);
        assert.deepEqual(await Promise.all(["before", "after"].map((id) => runningPid(cluster, id))), pids);
        await refused(cluster, "stitch.clone", "after");
        assert.equal((await cluster.run({ command: "stitch.clone", target: "before" })).status, "succeeded");
        const { specHash } = await cluster.master.state.stitch("after");
        const { redis, keys } = cluster.open;
        await until("its spec is offered", async () => (await redis.hexists(keys.nodeSpecs("n1"), specHash)) === 1);
        const api = (await cluster.api()).url;
        assert.deepEqual(await adopted(cluster, api), { node: "n1", adopted: ["n1:after"], unknown: [] });
        assert.equal((await cluster.run({ command: "stitch.clone", target: "after" })).status, "succeeded");
      } finally {
        raw.disconnect();
      }
    });
  });

  it("a spec that the store has lost: a restarted worker uses its own copy, and adopt brings the spec back", async () => {
    await withCluster(url, FAST, async (cluster) => {
      const { redis, keys } = cluster.open;
      const first = await cluster.node("n1");
      await cluster.create("n1", "a", SLEEPS);
      const { specHash, pid } = await cluster.master.state.stitch("a");
      assert.deepEqual(readdirSync(ownSpecs(cluster, "n1")), [specHash]);
      await redis.del(keys.spec(specHash));
      await first.kill("SIGKILL");
      await cluster.node("n1");
      await runningPid(cluster, "n1:a", pid);
      await refused(cluster, "stitch.clone", "a");
      await until("it is offered", async () => (await redis.hexists(keys.nodeSpecs("n1"), specHash)) === 1);
      const api = (await cluster.api()).url;
      assert.deepEqual(await adopted(cluster, api), { node: "n1", adopted: [], unknown: [] });
      assert.ok((await redis.pttl(keys.spec(specHash))) > 7 * 86_400_000);
      assert.equal((await cluster.run({ command: "stitch.clone", target: "a" })).status, "succeeded");
    });
  });

  it("a spec that neither store nor node has: the stitch does not start, and must be created anew", async () => {
    await withCluster(url, FAST, async (cluster) => {
      const { redis, keys } = cluster.open;
      const first = await cluster.node("n1");
      await cluster.create("n1", "a", SLEEPS);
      const { specHash } = await cluster.master.state.stitch("a");
      assert.equal(await first.kill("SIGTERM"), 0);
      // The text in the store is that of another spec, and so is the text in the file.
      writeFileSync(join(ownSpecs(cluster, "n1"), specHash), JSON.stringify({ adaptor: "module", module: "x" }));
      await redis.set(keys.spec(specHash), JSON.stringify({ adaptor: "module", module: "y" }));
      await cluster.node("n1");
      await until("it is held up", async () => (await cluster.master.state.stitch("a")).state === "backoff");
      const started = await cluster.run({ command: "stitch.start", target: "a" });
      assert.equal(started.error?.code, "spec_unknown", JSON.stringify(started));
      await redis.del(keys.spec(specHash));
      const api = (await cluster.api()).url;
      assert.deepEqual(await adopted(cluster, api), { node: "n1", adopted: [], unknown: ["n1:a"] });
      assert.equal((await cluster.run({ command: "stitch.remove", target: "a" })).status, "succeeded");
      await cluster.create("n1", "a", SLEEPS);
      await runningPid(cluster, "a");
    });
  });

  it("a node that has lost its disk runs its assigned stitches again, from the store", async () => {
    await withCluster(url, FAST, async (cluster) => {
      const first = await cluster.node("n1");
      await cluster.create("n1", "a", SLEEPS);
      const { pid } = await cluster.master.state.stitch("a");
      assert.equal(await first.kill("SIGTERM"), 0);
      await cluster.node("n1", { STITCH_STATE_DIR: join(cluster.dir, "another-disk") });
      await runningPid(cluster, "a", pid);
      assert.equal((await cluster.run({ command: "stitch.restart", target: "a" })).status, "succeeded");
    });
  });

  it("a create fails with the reason and leaves nothing if the store loses its spec before the node asks for it", async () => {
    await withCluster(url, FAST, async (cluster) => {
      const { redis, keys } = cluster.open;
      const first = await cluster.node("n1");
      await cluster.create("n1", "a", SLEEPS);
      const { specHash } = await cluster.master.state.stitch("a");
      await first.kill("SIGTERM");
      const spec = { adaptor: "process", protocol: "none", minHealthyMs: 0, command: ["sleep", "601"] };
      const body = { command: "stitch.create", target: "shop.b.1", node: "n1", id: "b", spec } as const;
      const waits = await cluster.run({ ...body, waitForNode: true }, null, 0);
      const stored = (await redis.keys(`cs:${cluster.name}:spec:*`)).filter((key) => key !== keys.spec(specHash));
      assert.equal(stored.length, 1);
      await redis.del(...stored);
      await cluster.node("n1");
      const { error, status } = await cluster.master.commands.job(waits.id, 30_000);
      assert.deepEqual([status, error?.code], ["failed", "spec_unknown"]);
      await assert.rejects(cluster.master.state.stitch("n1:b"), { code: "not_found" });
    });
  });

  it("a worker restarted without Redis starts the stitches that may run without it, and joins once Redis is back", async () => {
    await withOwnRedis(async (redis) => {
      await withCluster(redis.url, {}, async (cluster) => {
        const first = await cluster.node("n1");
        await cluster.create("n1", "keeps", SLEEPS);
        await cluster.create("n1", "stops", ["sleep", "700"], { onDisconnect: "stop" });
        await cluster.create("n1", "off", ["sleep", "800"]);
        await cluster.run({ command: "stitch.stop", target: "off" });
        await first.kill("SIGKILL");
        await until("its stitches have ended with it", async () => (await programs(cluster)).length === 0);
        await redis.crash();
        // With its own master part, which waits as well.
        const second = cluster.part(["node"], { ...alone(cluster), STITCH_ROLES: "node,master" });
        await until("it says that it waits", () => second.output.includes("joins the cluster"));
        const [pid] = await until("what goes on without Redis runs", async () => {
          const found = await programs(cluster);
          return found.length > 0 && found;
        });
        assert.equal((await programs(cluster)).length, 1);
        // This takes longer than anything waits for Redis at its start.
        await until("its master part is tried again", () => second.output.includes("it is tried again"));
        assert.equal((await programs(cluster)).length, 1);
        await redis.back();
        await runningPid(cluster, "stops");
        await until("its master part tends", async () => (await cluster.master.state.cluster()).masters.length > 0);
        await until("it is shown as it is", async () => (await cluster.master.state.stitch("keeps")).pid === pid);
        assert.ok((await programs(cluster)).includes(pid ?? 0), "it was not started again");
        assert.equal((await cluster.master.state.stitch("off")).state, "stopped");
        assert.equal((await cluster.run({ command: "node.ping", target: "n1" })).status, "succeeded");
        assert.equal(await second.kill("SIGTERM"), 0);
      });
    });
  });

  it("told to leave without Redis, a worker stops its stitches; if its lease ran out, the next starts none", async () => {
    await withOwnRedis(async (redis) => {
      await withCluster(redis.url, FAST, async (cluster) => {
        const first = await cluster.node("n1", { STITCH_LEASE_MS: "60000" });
        await cluster.create("n1", "a", SLEEPS);
        await first.kill("SIGKILL");
        await redis.crash();
        const second = cluster.part(["node"], { ...alone(cluster), STITCH_LEASE_MS: "60000" });
        await until("it runs", async () => (await programs(cluster)).length === 1);
        assert.equal(await second.kill("SIGTERM"), 0);
        assert.deepEqual(await programs(cluster), []);
        const third = cluster.part(["node"], alone(cluster));
        assert.equal(await third.exited, 1, third.output);
        assert.match(third.output, /Redis/);
        assert.deepEqual(await programs(cluster), []);
        await redis.back();
      });
    });
  });

  it("a worker restarted without Redis starts nothing if the former one has left", async () => {
    await withOwnRedis(async (redis) => {
      await withCluster(redis.url, {}, async (cluster) => {
        const first = await cluster.node("n1");
        await cluster.create("n1", "a", SLEEPS);
        assert.equal(await first.kill("SIGTERM"), 0);
        await redis.crash();
        const second = cluster.part(["node"], alone(cluster));
        assert.equal(await second.exited, 1, second.output);
        assert.doesNotMatch(second.output, /joins the cluster/);
        await redis.back();
      });
    });
  });
});
