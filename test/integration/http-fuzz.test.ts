import assert from "node:assert/strict";
import { it } from "node:test";
import { REDISES, withCluster } from "../support/cluster.ts";
import { fuzzHttp } from "../support/http-fuzz.ts";
import { registerTestNode } from "../support/register-test-node.ts";

const SEED = 1;
const FOR_MS = 30_000;

it("bad requests of any size get a short refusal, and hold up no other client", async () => {
  await withCluster(REDISES[0]?.url ?? "", {}, async (cluster) => {
    const { url, part } = await cluster.api();
    await registerTestNode(cluster.open.redis, cluster.open.keys, "n1");
    const { findings, statuses, requests } = await fuzzHttp(url, SEED, FOR_MS);
    assert.deepEqual(findings, []);
    assert.ok((statuses.get(400) ?? 0) > 0 && (statuses.get(413) ?? 0) > 0, `${requests} requests`);
    await part.kill("SIGTERM");
    assert.doesNotMatch(part.output, /"level":[56]0|^ +at /m, "nothing of it is an error of the API");
  });
});
