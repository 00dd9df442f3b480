import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { JobResource } from "../../src/contract/job.ts";
import { REDISES, type TestCluster, withCluster } from "../support/cluster.ts";
import { processesOf } from "../support/process-list.ts";

const LIVES = ["sleep", "600"];
const FAILS = ["sh", "-c", "exit 3"];

/** Creates `db` on a node, in a group of its own. */
const createDb = (cluster: TestCluster, group: string, node: string, command = LIVES): Promise<JobResource> => {
  const spec = { adaptor: "process", protocol: "none", command, restart: { policy: "never" }, minHealthyMs: 0 };
  return cluster.run({ command: "stitch.create", target: `shop.${group}.1`, id: "db", node, spec });
};
const remove = async (cluster: TestCluster, target: string) =>
  assert.equal((await cluster.run({ command: "stitch.remove", target })).status, "succeeded");

/** Fails unless the second `db` is as it was created: running, in its group, with its first process. */
async function isUntouched(cluster: TestCluster, node: string, pid: number | null): Promise<void> {
  const { group, state, node: on, pid: now } = await cluster.master.state.stitch("db");
  assert.deepEqual([group, state, on, now], ["shop.second.1", "running", node, pid]);
  const running = (await processesOf(cluster.dir)).filter((line) => line.includes("sleep 600"));
  assert.deepEqual(
    running.map((line) => Number(line.split(" ")[0])),
    [pid],
  );
}

describe("a stitch that has the id of a removed stitch", { concurrency: 2 }, () => {
  for (const redis of REDISES) {
    it(`is not touched by a rollback or retry of the removed stitch's jobs (${redis.name})`, async () => {
      await withCluster(redis.url, {}, async (cluster) => {
        await Promise.all(["n1", "n2"].map((id) => cluster.node(id)));
        const created = await createDb(cluster, "first", "n1");
        const stopped = await cluster.run({ command: "stitch.stop", target: "db" });
        const moved = await cluster.run({ command: "stitch.move", target: "db", toNode: "n2" });
        await remove(cluster, "n2:db");
        const failed = await createDb(cluster, "first", "n2", FAILS);
        assert.deepEqual(
          [created.status, stopped.status, moved.status, failed.status],
          ["succeeded", "succeeded", "succeeded", "failed"],
        );
        await remove(cluster, "n2:db");

        assert.equal((await createDb(cluster, "second", "n2")).status, "succeeded");
        const { pid } = await cluster.master.state.stitch("db");
        for (const job of [created, stopped, failed])
          await assert.rejects(cluster.master.commands.rollback(job.id), { code: "not_reversible" }, job.command);
        await assert.rejects(cluster.master.commands.rollback(moved.id), { code: "not_found" });
        await assert.rejects(cluster.master.commands.retry(failed.id), { code: "not_found" });
        await isUntouched(cluster, "n2", pid);

        // A pointer that a node publishes again when it comes back, because the first `db` moved from n1 to n2.
        const { redis: client, keys } = cluster.open;
        await client.sadd(keys.group("shop.first.1"), "n2:db");
        for (const command of ["group.stop", "group.remove", "group.restart"] as const)
          await assert.rejects(cluster.run({ command, target: "shop.first" }), { code: "not_found" }, command);
        const scaled = await cluster.run({ command: "group.scale", target: "shop.first.1", count: 0 });
        assert.deepEqual([scaled.status, scaled.counts.total], ["succeeded", 0]);
        await isUntouched(cluster, "n2", pid);
      });
    });
  }
});
