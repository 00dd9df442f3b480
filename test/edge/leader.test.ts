// The API in workerd in the mode `leader`: it plans nothing itself, and asks the leader.
import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { createTestHarness } from "wrangler";
import { checkAnswer } from "../support/checked-fetch.ts";
import { REDISES, withCluster } from "../support/cluster.ts";
import { LED, leaderBeside, startMaster } from "../support/leaders.ts";

const TOKEN = "edge-leader-token-canary-0123456789";
const root = join(import.meta.dirname, "../..");

test("a command reaches the leader; without one it is refused", async () => {
  const [{ url: redisUrl } = { url: "" }] = REDISES;
  await withCluster(redisUrl, LED, async (cluster) => {
    await cluster.node("n1");
    const m1 = startMaster(cluster, "m1");
    await leaderBeside(cluster);
    const vars = { REDIS_URL: redisUrl, STITCH_TOKEN: TOKEN, STITCH_CLUSTER: cluster.name, STITCH_MASTER: "leader" };
    const edge = createTestHarness({ workers: [{ configPath: join(root, "wrangler.toml"), vars }] });
    await edge.listen();
    const ping = async (path: string) => {
      const response = await edge.fetch(path, {
        method: "POST",
        headers: { authorization: `Bearer ${TOKEN}`, "content-type": "application/json" },
        body: JSON.stringify({ command: "node.ping", target: "n1" }),
      });
      await checkAnswer("POST", path, response);
      return { status: response.status, body: (await response.json()) as Record<string, unknown> };
    };
    try {
      const { status, body } = await ping("/v1/commands?waitMs=20000");
      assert.deepEqual([status, body["status"], body["master"]], [200, "succeeded", "m1"]);
      await m1.kill("SIGTERM");
      const refused = await ping("/v1/commands");
      assert.deepEqual([refused.status, refused.body["code"]], [503, "no_leader"]);
    } finally {
      await edge.close();
    }
  });
});
