// The API in workerd, as on the edge, against a real Redis over TCP.
import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { createTestHarness, type TestHarness } from "wrangler";
import { type LocalRedis, startLocalRedis } from "../../src/cli/local-redis.ts";
import type { RedisClient } from "../../src/redis/client.ts";
import { connectRedis, openRedis } from "../../src/redis/connection.ts";
import { Keys } from "../../src/redis/keys.ts";
import { registerTestNode } from "../support/register-test-node.ts";

const TOKEN = "edge-test-token-canary";
const CLUSTER = `edge-${process.pid}`;
const root = join(import.meta.dirname, "../..");

let dir = "";
let local: LocalRedis | null = null;
let redis: RedisClient;
let edge: TestHarness;

before(async () => {
  dir = await mkdtemp(join(tmpdir(), "crossstitch-edge-"));
  const given = process.env["TEST_REDIS_URL"];
  if (given === undefined) local = await startLocalRedis({ dir: join(dir, "redis"), port: 0 });
  const url = given ?? local?.url ?? "";
  redis = openRedis(url, "shared", () => undefined);
  await connectRedis(redis, 5000);
  edge = createTestHarness({
    workers: [
      {
        configPath: join(root, "wrangler.toml"),
        vars: { REDIS_URL: url, STITCH_TOKEN: TOKEN, STITCH_CLUSTER: CLUSTER },
      },
    ],
  });
  await edge.listen();
});

after(async () => {
  await edge.close();
  redis.disconnect();
  await local?.stop();
  await rm(dir, { recursive: true, force: true });
});

async function ask(path: string, init: { method?: string; body?: string; token?: string | null } = {}) {
  const { token = TOKEN, ...rest } = init;
  const response = await edge.fetch(path, {
    ...rest,
    headers: {
      ...(token === null ? {} : { authorization: `Bearer ${token}` }),
      ...(init.body === undefined ? {} : { "content-type": "application/json" }),
    },
  });
  const text = await response.text();
  return { response, body: (text === "" ? null : JSON.parse(text)) as Record<string, unknown> };
}

test("the state routes answer", async () => {
  await registerTestNode(redis, new Keys(CLUSTER), "n1");
  const paths = ["/v1/cluster", "/v1/nodes", "/v1/nodes/n1", "/v1/stitches", "/v1/groups", "/v1/jobs", "/readyz"];
  for (const path of [...paths, "/openapi.json"]) {
    const { response, body } = await ask(path);
    assert.equal(response.status, 200, `${path}: ${JSON.stringify(body)}`);
    assert.ok(response.headers.get("x-request-id"));
  }
  const { body } = await ask("/v1/nodes/n1");
  assert.equal(body["liveness"], "alive");
});

test("a command is accepted and waits for its node", async () => {
  await registerTestNode(redis, new Keys(CLUSTER), "n2");
  const body = JSON.stringify({ command: "node.ping", target: "n2" });
  const sent = await ask("/v1/commands?waitMs=300", { method: "POST", body });
  assert.equal(sent.response.status, 202, JSON.stringify(sent.body));
  assert.equal(sent.body["status"], "pending");
  const { body: job } = await ask(`/v1/jobs/${String(sent.body["id"])}`);
  assert.equal(job["master"], "api-edge");
});

test("events are followed", async () => {
  await registerTestNode(redis, new Keys(CLUSTER), "n3");
  const ended = new AbortController();
  const stream = await edge.fetch("/v1/events?type=job.*", {
    headers: { authorization: `Bearer ${TOKEN}` },
    signal: ended.signal,
  });
  assert.equal(stream.headers.get("content-type"), "text/event-stream");
  assert.ok(stream.body);
  const reader = stream.body.getReader();
  await ask("/v1/commands", { method: "POST", body: JSON.stringify({ command: "node.ping", target: "n3" }) });
  let text = "";
  while (!text.includes("event: job.accepted")) {
    const { value, done } = await reader.read();
    assert.equal(done, false, `the stream ended after: ${text}`);
    text += new TextDecoder().decode(value as Uint8Array);
  }
  await reader.cancel();
  ended.abort();
});

test("errors are problem documents", async () => {
  const missing = await ask("/v1/nodes/none");
  assert.equal(missing.response.status, 404);
  assert.equal(missing.body["code"], "not_found");
  assert.equal(missing.response.headers.get("content-type"), "application/problem+json");
  const refused = await ask("/v1/cluster", { token: null });
  assert.equal(refused.body["code"], "unauthenticated");
  assert.ok(refused.response.headers.get("www-authenticate"));
});

test("the token is not logged", () => {
  assert.ok(!JSON.stringify(edge.getLogs()).includes(TOKEN));
});

test("without a token it serves nobody", async () => {
  await edge.update((options) => ({
    ...options,
    workers: (options.workers ?? []).map((worker) => ({ ...worker, vars: { REDIS_URL: "redis://127.0.0.1:1" } })),
  }));
  const { response, body } = await ask("/v1/cluster");
  assert.equal(response.status, 503);
  assert.match(String(body["detail"]), /STITCH_TOKEN/);
});
