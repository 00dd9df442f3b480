// Some servers of a Redis Cluster hang: nodes whose keys are on the others work on.
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { it } from "node:test";
import { Redis } from "ioredis";
import { FAST, until, withCluster } from "../support/cluster.ts";
import { isRunning } from "../support/process-list.ts";
import { startLocalCluster } from "../support/redis-cluster.ts";

it("P9: a node keeps its lease while its own server of a Redis Cluster answers, although all others hang", async () => {
  const dir = mkdtempSync(join(tmpdir(), "cs-shard-"));
  const redis = await startLocalCluster({ dir, masters: 3 });
  const servers = redis.masters.map(({ url }) => new Redis(url));
  try {
    await withCluster(redis.url, FAST, async (cluster) => {
      const { keys } = cluster.open;
      const serverOf = async (key: string) =>
        Math.floor((servers.length * Number(await servers[0]?.cluster("KEYSLOT", key))) / 16_384);
      const id = "n1";
      const own = await serverOf(keys.nodeMeta(id));
      await cluster.node(id);
      await cluster.create(id, "mortal", ["sleep", "600"], { onDisconnect: "stop" });
      const { pid } = await cluster.master.state.stitch(`${id}:mortal`);
      assert.ok(pid);
      const server = servers[own] ?? assert.fail();
      const beats = async () => Number(await server.hget(keys.nodeMeta(id), "beats"));
      const others = redis.masters.filter((_, number) => number !== own);
      for (const hung of others) hung.kill("SIGSTOP");
      try {
        const last = await beats();
        // Twice the lease.
        await until("it beats on", async () => (await beats()) >= last + 30);
        assert.ok(isRunning(pid));
        assert.equal(await server.hget(keys.nodeMeta(id), "incarnation"), "1", "its lease was never in doubt");
      } finally {
        for (const hung of others) hung.kill("SIGCONT");
      }
    });
  } finally {
    for (const server of servers) server.disconnect();
    await redis.stop();
    rmSync(dir, { recursive: true, force: true });
  }
});
