import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { it } from "node:test";
import { Redis } from "ioredis";
import { connectRedis, openRedis } from "../../src/redis/connection/connection.ts";
import { Keys } from "../../src/redis/keys.ts";
import { readNodes, redisTimeMs } from "../../src/redis/node/node-record.ts";
import { registerTestNode } from "../support/register-test-node.ts";
import { startLocalCluster } from "../support/redis-cluster.ts";

it("in a Redis Cluster, the time is from the server that has the key it is compared with", async () => {
  const dir = mkdtempSync(join(tmpdir(), "cs-time-"));
  const cluster = await startLocalCluster({ dir, masters: 2 });
  const client = openRedis(cluster.url, "shared", () => undefined);
  const keys = new Keys("c");
  const servers = cluster.masters.map(({ url }) => new Redis(url));
  /** How often each server was asked for the time, by a client or by a script that it runs. */
  const asked = async () => {
    const stats = await Promise.all(servers.map((server) => server.info("commandstats")));
    return stats.map((text) => Number(/cmdstat_time:calls=(\d+)/.exec(text)?.[1] ?? 0));
  };
  try {
    await connectRedis(client, 15_000);
    const ids = ["n1", "n2", "n3", "n4", "n5", "n6"];
    for (const id of ids) await registerTestNode(client, keys, id);
    const homes = new Set<number>();
    for (const id of ids) {
      const slot = await servers[0]?.cluster("KEYSLOT", keys.nodeMeta(id));
      const home = Number(slot) < 8192 ? 0 : 1;
      homes.add(home);
      const before = await asked();
      await redisTimeMs(client, keys.nodeMeta(id));
      const [node] = await readNodes(client, keys, [id]);
      assert.deepEqual(
        (await asked()).map((times, index) => times - (before[index] ?? 0)),
        [home === 0 ? 2 : 0, home === 1 ? 2 : 0],
      );
      const nowMs = await redisTimeMs(client, keys.nodeMeta(id));
      assert.ok(node?.readAtMs !== undefined && node.readAtMs <= nowMs && node.readAtMs >= node.startedAtMs);
    }
    assert.equal(homes.size, 2, "the nodes are spread over both");
  } finally {
    for (const server of servers) server.disconnect();
    client.disconnect();
    await cluster.stop();
    rmSync(dir, { recursive: true, force: true });
  }
});
