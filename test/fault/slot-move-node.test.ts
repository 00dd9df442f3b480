// A Redis Cluster moves the slot of a node. Meanwhile the node sends heartbeats, keeps its stitches and can be restarted.
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { it } from "node:test";
import { FAST, type TestCluster, until, withCluster } from "../support/cluster.ts";
import { withOpenSlot } from "../support/open-slot.ts";
import { isRunning, processesOf } from "../support/process-list.ts";
import { startLocalCluster } from "../support/redis-cluster.ts";

const pidOf = (cluster: TestCluster, id: string): Promise<number> =>
  until(`${id} runs`, async () => (await cluster.master.state.stitch(id).catch(() => null))?.pid);

it("P9: while a Redis Cluster moves its slot, a node keeps its lease and stitches, and can be restarted", async () => {
  const dir = mkdtempSync(join(tmpdir(), "cs-slot-"));
  const redis = await startLocalCluster({ dir, masters: 2 });
  try {
    await withCluster(redis.url, FAST, async (cluster) => {
      const first = await cluster.node("n1");
      await cluster.create("n1", "mortal", ["sleep", "600"], { onDisconnect: "stop" });
      const { keys, redis: client } = cluster.open;
      const pid = await pidOf(cluster, "n1:mortal");
      await withOpenSlot(redis, keys.nodeMeta("n1"), async (slot) => {
        const beats = async () => Number(await client.hget(keys.nodeMeta("n1"), "beats"));
        const { incarnation } = await cluster.master.state.node("n1");
        const outlive = async (what: string) => {
          const last = await beats();
          // Twice the lease.
          await until(`${what}: it beats on`, async () => (await beats()) >= last + 30);
          assert.equal((await cluster.master.state.node("n1")).liveness, "alive", what);
          assert.ok(isRunning(pid), what);
        };
        await outlive("nothing has moved, and not all of its keys exist");
        await slot.move(keys.nodeMeta("n1"));
        await outlive("its own record has moved");
        assert.equal((await cluster.master.state.node("n1")).incarnation, incarnation, "its lease was never in doubt");

        await first.kill("SIGKILL");
        await cluster.node("n1");
        // Its record waits to be published: half of the node's keys are on the one server, half on the other.
        const again = await until("the stitch runs again", async () =>
          (await processesOf(cluster.dir))
            .filter((line) => line.includes("sleep 600"))
            .map((line) => Number.parseInt(line, 10))
            .find((each) => each !== pid && isRunning(each)),
        );
        await slot.close();
        const ping = await until("tasks are carried out again", async () => {
          const job = await cluster.run({ command: "node.ping", target: "n1", deadlineMs: 10_000 });
          return job.status === "succeeded";
        });
        assert.ok(ping);
        await until("it is shown as it is", async () => (await cluster.master.state.stitch("n1:mortal")).pid === again);
        assert.ok(isRunning(again));
        assert.equal((await cluster.run({ command: "stitch.stop", target: "mortal" })).status, "succeeded");
      });
    });
  } finally {
    await redis.stop();
    rmSync(dir, { recursive: true, force: true });
  }
});
