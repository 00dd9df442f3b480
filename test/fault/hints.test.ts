import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { REDISES, until, withCluster } from "../support/cluster.ts";
import { SUCCEEDED } from "../support/ping-job.ts";

for (const redis of REDISES) {
  describe(`hints on a ${redis.name}`, () => {
    it("P6: a hint about outcomes that no node has written ends no job", async () => {
      await withCluster(redis.url, {}, async (cluster) => {
        const node = await cluster.node("n1");
        const { redis: client, keys } = cluster.open;
        node.child.kill("SIGSTOP");
        const asked = cluster.run({ command: "node.ping", target: "n1" }, null, 4000);
        const [id = ""] = await until("it is accepted", async () => {
          const open = await client.zrange(keys.openJobs, 0, "-1");
          return open.length === 1 && (await client.exists(keys.job(open[0] ?? ""))) === 1 && open;
        });
        for (const written of [0, 1, 3])
          await client.publish(
            keys.jobChannel(id),
            JSON.stringify({ runner: "n1", written, steps: ["s:t0.1.0", JSON.stringify(SUCCEEDED)] }),
          );
        await client.publish(keys.jobChannel(id), "{");
        const job = await asked;
        assert.deepEqual([job.status, job.finishedAt], ["pending", null]);
        assert.equal(await client.hexists(keys.job(id), "closed"), 0);

        node.child.kill("SIGCONT");
        const ended = await until("the node answers", async () => {
          const now = await cluster.master.commands.job(id, 1000);
          return now.finishedAt !== null && now;
        });
        assert.equal(ended.status, "succeeded");
        assert.notEqual(ended.tasks[0]?.steps[0]?.finishedAt, new Date(2).toISOString(), "by its own word");
      });
    });
  });
}
