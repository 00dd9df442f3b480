// Masters notice nodes that fall silent, and tell of each change once; what Redis or a Master has missed itself proves nothing.
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { redisTimeMs } from "../../src/redis/node/node-record.ts";
import { leaveNode } from "../../src/redis/node/node-lease.ts";
import { noteSilence, readSilent } from "../../src/redis/node/silent-nodes.ts";
import { FAST, REDISES, type TestCluster, until, withCluster } from "../support/cluster.ts";
import { isRunning } from "../support/process-list.ts";
import { withOwnRedis } from "../support/own-redis.ts";
import { registerTestNode } from "../support/register-test-node.ts";

const url = REDISES[0]?.url ?? "";
const LEASE_MS = Number(FAST.STITCH_LEASE_MS);
const WATCHED = ["node.joined", "node.suspect", "node.dead", "node.left", "node.back"];

/** What was told of a node, in order, as `type` without its family; with the incarnation where it is told. */
async function toldOf(cluster: TestCluster, node: string): Promise<string[]> {
  const { items } = await cluster.master.state.events(null, 1000, { type: WATCHED, node });
  return items.map(({ type, data }) =>
    `${type.replace("node.", "")} ${Number(data?.["incarnation"] ?? 0) || ""}`.trim(),
  );
}

const isTold = (cluster: TestCluster, node: string, last: string) =>
  until(`${node}: ${last}`, async () => (await toldOf(cluster, node)).at(-1) === last);

async function masters(cluster: TestCluster, count: number) {
  return Promise.all(
    Array.from({ length: count }, (_, at) => cluster.masterWorker({ STITCH_NODE_ID: `master-${at}` })),
  );
}

const only = { STITCH_ROLES: "node" };

describe("nodes that fall silent", { concurrency: 3 }, () => {
  for (const redis of REDISES)
    it(`a killed node is suspect, then dead, then back; each is told once by three Masters (${redis.name})`, async () => {
      await withCluster(redis.url, FAST, async (cluster) => {
        await masters(cluster, 3);
        const node = await cluster.node("n1", only);
        await cluster.node("n2", only);
        await node.kill("SIGKILL");
        await isTold(cluster, "n1", "dead 1");
        assert.deepEqual(await toldOf(cluster, "n1"), ["joined 1", "suspect 1", "dead 1"]);
        assert.equal((await cluster.master.state.node("n1")).liveness, "dead");
        await cluster.node("n1", only);
        await isTold(cluster, "n1", "back 2");
        assert.deepEqual(await toldOf(cluster, "n1"), ["joined 1", "suspect 1", "dead 1", "back 2"]);
        assert.deepEqual(await toldOf(cluster, "n2"), ["joined 1"]);
      });
    });

  it("six hundred nodes at once are each told once", async () => {
    await withCluster(url, FAST, async (cluster) => {
      const { redis, keys } = cluster.open;
      await masters(cluster, 2);
      const ids = Array.from({ length: 600 }, (_, at) => `n${at}`);
      await Promise.all(ids.map((id) => registerTestNode(redis, keys, id, 1)));
      for (const type of ["node.suspect", "node.dead"]) {
        const told = await until(`${type} of all`, async () => {
          const { items } = await cluster.master.state.events(null, 1000, { type: [type] });
          return items.length >= ids.length && items;
        });
        assert.deepEqual([told.length, new Set(told.map(({ node }) => node))], [ids.length, new Set(ids)]);
      }
    });
  });

  it("a paused node that was declared dead registers anew when it goes on", async () => {
    await withCluster(url, FAST, async (cluster) => {
      await masters(cluster, 1);
      const node = await cluster.node("n1", only);
      node.child.kill("SIGSTOP");
      await isTold(cluster, "n1", "dead 1");
      node.child.kill("SIGCONT");
      await isTold(cluster, "n1", "back 2");
      assert.deepEqual(await toldOf(cluster, "n1"), ["joined 1", "suspect 1", "dead 1", "back 2"]);
    });
  });

  it("a node that leaves in good order is neither suspect nor dead", async () => {
    await withCluster(url, FAST, async (cluster) => {
      await masters(cluster, 1);
      const [node, other] = await Promise.all([cluster.node("n1", only), cluster.node("n2", only)]);
      await node.kill("SIGTERM");
      await other.kill("SIGKILL");
      await isTold(cluster, "n2", "dead 1");
      assert.deepEqual(await toldOf(cluster, "n1"), ["joined 1", "left"]);
    });
  });

  it("while Redis hangs for longer than a lease, nobody becomes suspect; a death after it is noticed", async () => {
    await withOwnRedis(async (redis) => {
      await withCluster(redis.url, FAST, async (cluster) => {
        await masters(cluster, 2);
        const nodes = await Promise.all(["n1", "n2", "n3"].map((id) => cluster.node(id, only)));
        // Such a stitch ends when its node has had no lease for a while.
        const pids = await Promise.all(
          ["n1", "n2", "n3"].map(async (id) => {
            await cluster.create(id, `of-${id}`, ["sleep", "600"], { onDisconnect: "stop" });
            return (await cluster.master.state.stitch(`of-${id}`)).pid ?? assert.fail();
          }),
        );
        redis.now().kill("SIGSTOP");
        await until("every lease is over", () => !pids.some(isRunning));
        redis.now().kill("SIGCONT");
        await isTold(cluster, "n1", "back 2");
        await nodes[1]?.kill("SIGKILL");
        await isTold(cluster, "n2", "dead 2");
        assert.deepEqual(await toldOf(cluster, "n1"), ["joined 1", "back 2"]);
        assert.deepEqual(await toldOf(cluster, "n3"), ["joined 1", "back 2"]);
      });
    });
  });

  it("a Master that was paused declares nothing until it has watched for a lease again", async () => {
    await withCluster(url, FAST, async (cluster) => {
      const [master] = await masters(cluster, 1);
      const node = await cluster.node("n1", only);
      const { redis, keys } = cluster.open;
      master?.child.kill("SIGSTOP");
      await node.kill("SIGKILL");
      await until("its lease is over", async () => (await cluster.master.state.node("n1")).liveness === "dead");
      const wokenAtMs = await redisTimeMs(redis, keys.nodeMeta("n1"));
      master?.child.kill("SIGCONT");
      await isTold(cluster, "n1", "dead 1");
      const { items } = await cluster.master.state.events(null, 1000, { type: ["node.suspect", "node.dead"] });
      for (const { type, at } of items) {
        const afterMs = Date.parse(at) - wokenAtMs;
        assert.ok(afterMs >= LEASE_MS, `${type} ${afterMs} ms after it was woken`);
      }
    });
  });
});

describe("the word of a Master about a silent node", { concurrency: 2 }, () => {
  for (const redis of REDISES)
    it(`counts once, and not where anything has changed since it looked (${redis.name})`, async () => {
      await withCluster(redis.url, {}, async ({ open: { redis: client, keys } }) => {
        const seen = async (id: string) => (await readSilent(client, keys, [id]))[0] ?? assert.fail();
        const note = async (id: string, as: "suspect" | "dead" = "dead") =>
          noteSilence(client, keys, as, await seen(id));
        await Promise.all(
          ["gone", "beats", "again", "left", "other"].map((id) => registerTestNode(client, keys, id, 1)),
        );
        await registerTestNode(client, keys, "lives");
        for (const id of ["gone", "beats", "again", "left", "other"])
          await until("its lease is over", async () => (await seen(id)).isSilent);

        assert.deepEqual([await note("gone", "suspect"), await note("gone", "suspect")], [true, false]);
        assert.deepEqual([await note("gone"), await note("gone"), await note("gone", "suspect")], [true, false, false]);
        assert.equal((await seen("gone")).isDead, true);
        assert.equal(await note("lives"), false);
        assert.equal(await note("nobody"), false);

        const before = { beats: await seen("beats"), again: await seen("again"), left: await seen("left") };
        await client.hincrby(keys.nodeMeta("beats"), "beats", 1);
        const as = await registerTestNode(client, keys, "left", 1);
        await leaveNode(client, keys, "left", as);
        await registerTestNode(client, keys, "again", 1);
        for (const node of Object.values(before))
          assert.equal(await noteSilence(client, keys, "dead", node), false, node.id);
        const other = await seen("other");
        const elsewhere = { ...other, look: { ...other.look, replid: "0".repeat(40) } };
        assert.equal(await noteSilence(client, keys, "dead", elsewhere), false);
        assert.equal(await noteSilence(client, keys, "dead", other), true);
      });
    });
});
