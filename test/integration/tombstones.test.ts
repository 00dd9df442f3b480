import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { FORGOTTEN_KEPT_MS, leaveTombstone, readTombstone } from "../../src/redis/stitch/tombstones.ts";
import { refuse } from "../../src/redis/unreadable.ts";
import { REDISES, withCluster } from "../support/cluster.ts";
import { registerTestNode } from "../support/register-test-node.ts";

describe("a tombstone for a node that is away", { concurrency: 2 }, () => {
  for (const { name, url } of REDISES) {
    it(`is replaced only by a newer one that says something else, and outlives a forgotten node (${name})`, async () => {
      await withCluster(url, {}, async ({ open: { redis, keys } }) => {
        const word = { revision: "5.1", movedTo: "n2:a", arrivingFrom: null, born: "1.0" };
        const leave = (over: Partial<typeof word> = {}) => leaveTombstone(redis, keys, "n1", "a", { ...word, ...over });
        const words = () => redis.hget(keys.nodeMeta("n1"), "words");
        assert.equal(await leave(), true);
        assert.equal(await words(), null, "where there is no node, nothing makes a record of one");
        const keptMs = await redis.pttl(keys.nodeGone("n1"));
        assert.ok(keptMs > FORGOTTEN_KEPT_MS - 60_000 && keptMs <= FORGOTTEN_KEPT_MS, String(keptMs));

        await registerTestNode(redis, keys, "n1");
        assert.equal(await leave(), true, "the same again");
        assert.equal(await leave({ revision: "4.0" }), true, "an older one that says the same");
        assert.equal(await leave({ revision: "5.0", movedTo: "n3:a" }), false);
        assert.equal(await leave({ revision: "5.1", born: "2.0" }), false);
        assert.deepEqual([await readTombstone(redis, keys, "n1", "a", assert.ifError), await words()], [word, "2"]);
        assert.equal(await leave({ revision: "6.0" }), true);
        assert.deepEqual([await words(), await redis.pttl(keys.nodeGone("n1"))], ["3", -1]);
        await redis.hset(keys.nodeGone("n1"), "b", "garbage");
        assert.equal(await readTombstone(redis, keys, "n1", "b", () => undefined), null, "where that is borne");
        await assert.rejects(readTombstone(redis, keys, "n1", "b", refuse), /cannot be read/);
        assert.equal(await leaveTombstone(redis, keys, "n1", "b", word), true, "what cannot be read gives way");
        assert.deepEqual(await readTombstone(redis, keys, "n1", "b", refuse), word);
      });
    });
  }
});
