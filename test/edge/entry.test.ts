// The edge's entry without workerd: what it answers if it is not set up, and what it does when a reader leaves.
import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it, test } from "node:test";
import edge from "../../src/api/edge.ts";
import { type LocalRedis, startLocalRedis } from "../../src/cli/processes/local-redis.ts";
import type { RedisClient } from "../../src/redis/connection/client.ts";
import { connectRedis, openRedis } from "../../src/redis/connection/connection.ts";
import { Keys } from "../../src/redis/keys.ts";
import { checkAnswer } from "../support/checked-fetch.ts";
import { until } from "../support/cluster.ts";
import { publishMuteStitch } from "../support/publish-test-stitch.ts";
import { redisConnections } from "../support/redis-connections.ts";
import { registerTestNode } from "../support/register-test-node.ts";

const TOKEN = "edge-test-token-0123456789abcdef";
const REDIS_URL = "redis://127.0.0.1:1";

/** `ended` resolves when the isolate has no more work for the request (`waitUntil`). */
function ask(path: string, env: Record<string, string>, init: RequestInit = {}) {
  const work: Promise<unknown>[] = [];
  const request = new Request(`http://edge.test${path}`, { headers: { authorization: `Bearer ${TOKEN}` }, ...init });
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

describe("a request's connections to Redis close when its signal says that the client has left", () => {
  let dir = "";
  let local: LocalRedis;
  let redis: RedisClient;
  const keys = new Keys("default");
  before(async () => {
    dir = await mkdtemp(join(tmpdir(), "crossstitch-edge-"));
    local = await startLocalRedis({ dir, port: 0 });
    redis = openRedis(local.url, "shared", () => undefined);
    await connectRedis(redis, 5000);
    await registerTestNode(redis, keys, "n1");
    await publishMuteStitch(redis, keys, "n1", "mute");
  });
  after(async () => {
    redis.disconnect();
    await local.stop();
    await rm(dir, { recursive: true, force: true });
  });

  const env = () => ({ REDIS_URL: local.url, STITCH_TOKEN: TOKEN });
  const post = (body: unknown): RequestInit => ({
    method: "POST",
    body: JSON.stringify(body),
    headers: { authorization: `Bearer ${TOKEN}`, "content-type": "application/json" },
  });
  const closes = async (ended: () => Promise<void>) => {
    await ended();
    await until("its connections are gone", async () => (await redisConnections(redis)) === 1, 5000);
  };

  it("while it reads a stream of events", async () => {
    const left = new AbortController();
    const { response, ended } = ask("/v1/events", env(), { signal: left.signal });
    const reader = (await response).body?.getReader();
    await reader?.read();
    await until("it listens", async () => (await redisConnections(redis)) === 3);
    left.abort();
    await closes(ended);
  });

  for (const [what, path, sent] of [
    ["a job's end", "/v1/commands?waitMs=60000", { command: "node.ping", target: "n1" }],
    ["a reply", "/v1/messages", { to: { stitch: "mute" }, data: "x", expect: "reply", timeoutMs: 60_000 }],
  ] as const) {
    it(`while it waits for ${what}`, async () => {
      const left = new AbortController();
      const { response, ended } = ask(path, env(), { ...post(sent), signal: left.signal });
      await until("it listens", async () => (await redisConnections(redis)) === 3);
      left.abort();
      await until("its connections are gone", async () => (await redisConnections(redis)) === 1, 5000);
      // Nobody gets this answer; without a connection, the wait ends with it.
      assert.equal((await response).status, 503);
      await closes(ended);
    });
  }
});
