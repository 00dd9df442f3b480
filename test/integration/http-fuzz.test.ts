import assert from "node:assert/strict";
import { it } from "node:test";
import { REDISES, withCluster } from "../support/cluster.ts";
import { fuzzHttp } from "../support/http-fuzz.ts";
import { BEARER, LAMBDA, WORKERD, withApi } from "../support/platforms.ts";
import { registerTestNode } from "../support/register-test-node.ts";

const SEED = 1;
const FOR_MS = 20_000;
/** On the other platforms: the code that judges a request is the same. */
const SHORT_MS = 3000;
const redisUrl = REDISES[0]?.url ?? "";

it("bad requests of any size get a short refusal, and hold up no other client", async () => {
  await withCluster(redisUrl, {}, async (cluster) => {
    const { url, part } = await cluster.api();
    await registerTestNode(cluster.open.redis, cluster.open.keys, "n1");
    const { findings, statuses, requests } = await fuzzHttp(url, SEED, FOR_MS);
    assert.deepEqual(findings, []);
    assert.ok((statuses.get(400) ?? 0) > 0 && (statuses.get(413) ?? 0) > 0, `${requests} requests`);
    await part.kill("SIGTERM");
    assert.doesNotMatch(part.output, /"level":[56]0|^ +at /m, "nothing of it is an error of the API");
  });
});

for (const platform of [WORKERD, LAMBDA]) {
  it(`bad requests of any size get a short refusal on ${platform.name}, too`, async (t) => {
    await withApi(platform, redisUrl, async (cluster, { url, output }) => {
      await registerTestNode(cluster.open.redis, cluster.open.keys, "n1");
      const options = { headers: BEARER, behindAServer: true };
      const { findings, statuses, requests } = await fuzzHttp(url, SEED, SHORT_MS, options);
      t.diagnostic(`${requests} requests: ${JSON.stringify([...statuses])}`);
      assert.deepEqual(findings, []);
      assert.ok((statuses.get(400) ?? 0) > 0 && (statuses.get(413) ?? 0) > 0, `${requests} requests`);
      assert.doesNotMatch(output(), /"error":|^ +at /m, "nothing of it is an error of the API");
    });
  });
}
