// The edge's entry without workerd: what it answers if it is not set up, and what it does when a reader leaves.
import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import edge from "../../src/api/edge.ts";
import { startLocalRedis } from "../../src/cli/processes/local-redis.ts";
import { connectRedis, openRedis } from "../../src/redis/connection/connection.ts";
import { checkAnswer } from "../support/checked-fetch.ts";
import { until } from "../support/cluster.ts";
import { redisConnections } from "../support/redis-connections.ts";

const TOKEN = "edge-test-token-0123456789abcdef";
const REDIS_URL = "redis://127.0.0.1:1";

/** `ended` resolves when the isolate has no more work for the request (`waitUntil`). */
function ask(path: string, env: Record<string, string>, signal: AbortSignal | null = null) {
  const work: Promise<unknown>[] = [];
  const request = new Request(`http://edge.test${path}`, { headers: { authorization: `Bearer ${TOKEN}` }, signal });
  const response = edge.fetch(request, env, { waitUntil: (promise) => void work.push(promise) });
  return { response, ended: async () => void (await Promise.all(work)) };
}

for (const [what, env, expected, says] of [
  ["no token", { REDIS_URL }, [403, "forbidden", false], /wrangler secret put STITCH_TOKEN/],
  ["no Redis", { STITCH_TOKEN: TOKEN }, [503, "redis_unavailable", true], /wrangler secret put REDIS_URL/],
  [
    "a wrong setting",
    { REDIS_URL, STITCH_TOKEN: TOKEN, STITCH_CLUSTER: "a canary" },
    [500, "internal", false],
    /STITCH_CLUSTER: .*wrangler/,
  ],
  [
    "a token that nobody can send",
    { REDIS_URL, STITCH_TOKEN: "a canary" },
    [500, "internal", false],
    /STITCH_TOKEN: .*wrangler/,
  ],
  [
    "a token that could be guessed",
    { REDIS_URL, STITCH_TOKEN: "x".repeat(31) },
    [500, "internal", false],
    /STITCH_TOKEN: .*32 characters.*wrangler/,
  ],
  [
    "a Redis URL with a password that is not encoded",
    { REDIS_URL: "redis://user:a/canary@redis", STITCH_TOKEN: TOKEN },
    [500, "internal", false],
    /REDIS_URL: .*percent-encode.*wrangler/,
  ],
] as const) {
  test(`${what}: answers a problem document with an error code and the next step, without the setting's value`, async (t) => {
    const logged = t.mock.method(console, "error", () => undefined);
    const { response, ended } = ask("/v1/cluster", env);
    const answer = await response;
    await checkAnswer("GET", "/v1/cluster", answer);
    const text = await answer.text();
    await ended();
    const body = JSON.parse(text) as Record<string, unknown>;
    assert.deepEqual([answer.status, body["code"], body["retryable"]], expected);
    assert.equal(answer.headers.get("content-type"), "application/problem+json");
    assert.equal(answer.headers.get("x-request-id"), body["requestId"]);
    assert.equal(answer.headers.has("retry-after"), expected[0] === 503);
    assert.match(String(body["detail"]), says);
    assert.doesNotMatch(text + JSON.stringify(logged.mock.calls.map((call) => call.arguments)), /canary|user:/);
  });
}

test("a request's connections to Redis close when its signal says that the reader has left", {
  timeout: 20_000,
}, async () => {
  const dir = await mkdtemp(join(tmpdir(), "crossstitch-edge-"));
  const local = await startLocalRedis({ dir, port: 0 });
  const redis = openRedis(local.url, "shared", () => undefined);
  try {
    await connectRedis(redis, 5000);
    const left = new AbortController();
    const { response, ended } = ask("/v1/events", { REDIS_URL: local.url, STITCH_TOKEN: TOKEN }, left.signal);
    const reader = (await response).body?.getReader();
    await reader?.read();
    await until("it listens", async () => (await redisConnections(redis)) === 3);
    left.abort();
    await ended();
    await until("its connections are gone", async () => (await redisConnections(redis)) === 1);
  } finally {
    redis.disconnect();
    await local.stop();
    await rm(dir, { recursive: true, force: true });
  }
});
