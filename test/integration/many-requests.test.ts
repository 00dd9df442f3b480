// Thousands of requests in a row leave nothing behind on the platforms that call the API: no connection, and no listener.
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { TestCluster, until } from "../support/cluster.ts";
import { requestsTo, type Sent } from "../support/http-requests.ts";
import { withOwnRedis } from "../support/own-redis.ts";
import { BEARER, LAMBDA, WORKERD } from "../support/platforms.ts";
import { redisConnections } from "../support/redis-connections.ts";
import { registerTestNode } from "../support/register-test-node.ts";

const ASKS: readonly (Sent & { readonly path: string; readonly status: number })[] = [
  { path: "/v1/cluster", status: 200 },
  { path: "/v1/nodes/n1", status: 200 },
  { path: "/v1/nodes/none", status: 404 },
  { path: "/v1/jobs?limit=0", status: 400 },
  { path: "/v1/cluster", headers: { authorization: "Bearer wrong" }, status: 401 },
  { path: "/v1/commands?waitMs=1", body: { command: "node.ping", target: "n1", dryRun: true }, status: 200 },
  // Waits, so it opens a connection that listens.
  { path: "/v1/commands?waitMs=1", body: { command: "node.cordon", target: "n1" }, status: 0 },
  { path: "/readyz", status: 200 },
];

for (const { platform, rounds, atOnce, keeps } of [
  // On Lambda, an instance keeps one connection, and one that listens.
  { platform: LAMBDA, rounds: 500, atOnce: 2, keeps: 4 },
  { platform: WORKERD, rounds: 250, atOnce: 4, keeps: 0 },
]) {
  describe(`${rounds * ASKS.length} requests to the API on ${platform.name}`, () => {
    it("leave no connection to Redis and no listener behind", async (t) => {
      await withOwnRedis(async (redis) => {
        const cluster = await new TestCluster(redis.url).start();
        const { redis: own, keys } = cluster.open;
        await registerTestNode(own, keys, "n1");
        const others = await redisConnections(own);
        const api = await platform.start({ REDIS_URL: redis.url, STITCH_CLUSTER: cluster.name });
        try {
          const { send } = requestsTo(api.url, BEARER);
          let left = rounds;
          const client = async () => {
            while (left-- > 0)
              for (const { path, status, ...sent } of ASKS) {
                const response = await send(path, sent);
                const body = await response.text();
                const isRight = status === 0 ? [200, 202].includes(response.status) : response.status === status;
                assert.ok(isRight, `${path}: ${response.status} ${body}`);
              }
          };
          const startedAtMs = performance.now();
          await Promise.all(Array.from({ length: atOnce }, client));
          t.diagnostic(`${((performance.now() - startedAtMs) / rounds / ASKS.length).toFixed(1)} ms for each request`);
          const few = async () => (await redisConnections(own)) - others <= keeps;
          await until("the connections are gone", few, 5000);
          assert.doesNotMatch(api.output(), /MaxListenersExceededWarning|Warning:/);
        } finally {
          await api.close();
          await cluster.stop();
        }
      });
    });
  });
}
