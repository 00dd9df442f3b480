import assert from "node:assert/strict";
import { it } from "node:test";
import { checkedFetch } from "../support/checked-fetch.ts";
import { REDISES, withCluster } from "../support/cluster.ts";
import { registerTestNode } from "../support/register-test-node.ts";

it("a command that could be accepted and never dispatched is refused, planned or not, and jobs can be listed", async () => {
  await withCluster(REDISES[0]?.url ?? "", {}, async (cluster) => {
    const { redis, keys } = cluster.open;
    await registerTestNode(redis, keys, "n1");
    const { url } = await cluster.api();
    const post = async (count: number, kib: number, more: object = {}) => {
      const env = Object.fromEntries(
        Array.from({ length: Math.ceil(kib / 8) }, (_, index) => [`V${index}`, "v".repeat(8100)]),
      );
      const spec = { adaptor: "process", command: ["true"], env };
      const response = await checkedFetch(`${url}/v1/commands`, {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify({ command: "stitch.create", target: "shop.web.1", count, spec, ...more }),
      });
      return { status: response.status, answer: (await response.json()) as Record<string, unknown> };
    };
    for (const [count, kib] of [
      [1000, 60],
      [300, 240],
    ] as const)
      for (const more of [{}, { dryRun: true }]) {
        const { status, answer } = await post(count, kib, more);
        assert.deepEqual([status, answer["code"]], [413, "too_large"]);
        assert.match(String(answer["detail"]), /at most 16 MiB.*Nothing was changed/);
      }
    assert.deepEqual(await redis.keys(`cs:${cluster.name}:{job:*`), []);
    const jobs = async () => (await cluster.master.commands.jobs({ limit: 10, cursor: null }, {})).items;
    assert.deepEqual(await jobs(), []);
    assert.equal((await post(150, 60)).status, 202);
    assert.equal((await jobs()).length, 1);
  });
});
