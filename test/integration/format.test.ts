// The stored data names its format. A process that finds another format does not start, and changes nothing.
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { FORMAT } from "../../src/redis/format.ts";
import { REDISES, type TestCluster, until, withCluster } from "../support/cluster.ts";

/** Starts each part of a cluster. @returns the output of each, after it has ended with code 1. */
async function refusals(cluster: TestCluster): Promise<string[]> {
  return Promise.all(
    ["api", "master", "node"].map(async (name) => {
      const part = cluster.part([name], { STITCH_PORT: "0", STITCH_NODE_ID: "n9", STITCH_ROLES: "node" });
      assert.equal(await part.exited, 1, part.output);
      return part.output;
    }),
  );
}

for (const { name, url } of REDISES) {
  describe(`a cluster's format on a ${name}`, { concurrency: 2 }, () => {
    it("every process refuses another format, in one line", async () => {
      await withCluster(url, {}, async (cluster) => {
        const { redis, keys } = cluster.open;
        assert.equal(await redis.get(keys.format), String(FORMAT), "written by the first process");
        await redis.set(keys.format, String(FORMAT + 1));
        for (const said of await refusals(cluster)) {
          assert.match(
            said,
            new RegExp(`^the cluster "${cluster.name}" in this Redis is stored in format ${FORMAT + 1}; `),
          );
          assert.match(said, /"Upgrading" in docs\/operations\.md\.\n$/);
          assert.equal(said.trimEnd().split("\n").length, 1, said);
        }
        assert.equal(await redis.zcard(keys.nodes), 0, "nothing was registered");
      });
    });

    it("every process refuses data from before there was a format, too", async () => {
      await withCluster(url, {}, async (cluster) => {
        const { redis, keys } = cluster.open;
        await redis.del(keys.format);
        await redis.zadd(keys.nodes, 1, "old");
        for (const said of await refusals(cluster)) assert.match(said, /is stored in format 1; /);
        assert.equal(await redis.exists(keys.format), 0);
      });
    });

    it("a Redis that came back empty gets the format again, before it has a node", async () => {
      await withCluster(url, { STITCH_HEARTBEAT_MS: "200" }, async (cluster) => {
        await cluster.node("n1");
        const { redis, keys } = cluster.open;
        await redis.del(keys.format);
        await redis.del(keys.nodeMeta("n1"));
        await until("it is registered again", async () => (await redis.exists(keys.nodeMeta("n1"))) === 1);
        assert.equal(await redis.get(keys.format), String(FORMAT));
        await redis.del(keys.format);
        await cluster.master.upkeep.sweep();
        assert.equal(await redis.get(keys.format), String(FORMAT), "a Master writes it, too");
      });
    });
  });
}
