// The API in workerd, as on the edge, against a real Redis over TCP.
import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { createTestHarness, type TestHarness } from "wrangler";
import { type LocalRedis, startLocalRedis } from "../../src/cli/processes/local-redis.ts";
import type { RedisClient } from "../../src/redis/connection/client.ts";
import { connectRedis, openRedis } from "../../src/redis/connection/connection.ts";
import { leaveNode } from "../../src/redis/node/node-lease.ts";
import { emitEvents } from "../../src/redis/events.ts";
import { Keys } from "../../src/redis/keys.ts";
import { publishAsNode, publishMuteStitch } from "../support/publish-test-stitch.ts";
import { InboxReader } from "../../workers/node/messages/inbox-reader.ts";
import { LogQuestions } from "../../workers/node/messages/log-questions.ts";
import { StitchLog } from "../../workers/node/logs/stitch-log.ts";
import { checkAnswer } from "../support/checked-fetch.ts";
import { until } from "../support/cluster.ts";
import { redisConnections } from "../support/redis-connections.ts";
import { registerTestNode } from "../support/register-test-node.ts";
import { testStitch } from "../support/test-stitch.ts";

const TOKEN = "edge-test-token-canary-0123456789";
const CLUSTER = `edge-${process.pid}`;
const root = join(import.meta.dirname, "../..");

let dir = "";
// A Redis for this file alone, because a test counts its connections.
let local: LocalRedis;
let redis: RedisClient;
let edge: TestHarness;

before(async () => {
  dir = await mkdtemp(join(tmpdir(), "crossstitch-edge-"));
  local = await startLocalRedis({ dir: join(dir, "redis"), port: 0 });
  redis = openRedis(local.url, "shared", () => undefined);
  await connectRedis(redis, 5000);
  edge = createTestHarness({
    workers: [
      {
        configPath: join(root, "wrangler.toml"),
        vars: { REDIS_URL: local.url, STITCH_TOKEN: TOKEN, STITCH_CLUSTER: CLUSTER },
      },
    ],
  });
  await edge.listen();
});

after(async () => {
  await edge.close();
  redis.disconnect();
  await local.stop();
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
  await checkAnswer(init.method ?? "GET", path, response);
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

test("events are streamed as they happen", async () => {
  await registerTestNode(redis, new Keys(CLUSTER), "n3");
  const ended = new AbortController();
  const stream = await edge.fetch("/v1/events?type=job.*", {
    headers: { authorization: `Bearer ${TOKEN}` },
    signal: ended.signal,
  });
  await checkAnswer("GET", "/v1/events?type=job.*", stream);
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

/** How many connections to Redis the edge has. */
const connections = async () => (await redisConnections(redis)) - 1;

test("a reader's connections to Redis close when the reader leaves, at the latest at the next write", async () => {
  const gone = (what: string) =>
    until(what, async () => {
      // workerd notices only when it writes, and so does wrangler's proxy in front of it.
      await emitEvents(redis, new Keys(CLUSTER), [{ type: "job.ended" }]);
      return (await connections()) === 0;
    });
  await gone("the connections of all the requests before are gone");
  const left = new AbortController();
  const stream = await edge.fetch("/v1/events", {
    headers: { authorization: `Bearer ${TOKEN}` },
    signal: left.signal,
  });
  await checkAnswer("GET", "/v1/events", stream);
  const reader = stream.body?.getReader();
  await reader?.read();
  await until("it listens", async () => (await connections()) === 2);
  await reader?.cancel();
  left.abort();
  await gone("its connections are gone");
});

test("a request's connections to Redis close after every kind of answer", async () => {
  const keys = new Keys(CLUSTER);
  await registerTestNode(redis, keys, "n5");
  await leaveNode(redis, keys, "left", await registerTestNode(redis, keys, "left"));
  await registerTestNode(redis, keys, "broken");
  await redis.hset(keys.nodeMeta("broken"), "facts", "not JSON");
  const cordon = JSON.stringify({ command: "node.cordon", target: "n5" });
  for (const [status, path, init] of [
    [200, "/v1/cluster", {}],
    [200, "/v1/commands?waitMs=5000", { method: "POST", body: cordon }],
    [204, "/v1/nodes/left", { method: "DELETE" }],
    [404, "/v1/nodes/none", {}],
    [400, "/v1/nodes/Not-An-Id", {}],
    [401, "/v1/cluster", { token: null }],
    [500, "/v1/nodes/broken", {}],
  ] as const) {
    const { response, body } = await ask(path, init);
    assert.equal(response.status, status, `${path}: ${JSON.stringify(body)}`);
    await until(`none is left after ${status} of ${path}`, async () => (await connections()) === 0, 5000);
  }
  await redis.del(keys.nodeMeta("broken"));
});

// workerd does not tell of a client that leaves before the answer begins (enable_request_signal or not), and there is nothing to
// write by which it would notice. With a runtime that tells, they close at once: test/edge/entry.test.ts.
test("a request's connections to Redis close at the end of its wait if its client has left", async () => {
  const keys = new Keys(CLUSTER);
  await registerTestNode(redis, keys, "n6");
  await publishMuteStitch(redis, keys, "n6", "mute");
  const sent = await ask("/v1/commands", {
    method: "POST",
    body: JSON.stringify({ command: "node.ping", target: "n6" }),
  });
  const message = { to: { stitch: "n6:mute" }, data: "x", expect: "reply", timeoutMs: 2000 };
  await until("none is left of what was before", async () => (await connections()) === 0);
  for (const [path, body] of [
    [`/v1/jobs/${String(sent.body["id"])}?waitMs=2000`, null],
    ["/v1/messages", JSON.stringify(message)],
  ] as const) {
    const left = new AbortController();
    const waiting = edge.fetch(path, {
      ...(body === null ? {} : { method: "POST", body }),
      headers: { authorization: `Bearer ${TOKEN}`, "content-type": "application/json" },
      signal: left.signal,
    });
    const ended = assert.rejects(waiting, { name: "AbortError" }, path);
    await until(`${path} waits, with a connection that listens`, async () => (await connections()) === 2);
    left.abort();
    await ended;
    await until(`none is left after the client of ${path} has left`, async () => (await connections()) === 0, 10_000);
  }
});

test("a stitch's log is read and followed by asking the stitch's node", async () => {
  const keys = new Keys(CLUSTER);
  await registerTestNode(redis, keys, "n4");
  const record = testStitch("a", { group: "a.b.1", desired: "running", state: "running" });
  const status = { reserved: { cpu: 0, memoryBytes: 0 }, stitchCount: 1, states: {}, eligibility: "eligible" as const };
  await publishAsNode(redis, keys, "n4", [{ kind: "set", record, isNew: true }], status);
  const onError = (error: unknown) => assert.fail(String(error));
  const log = new StitchLog(join(dir, "logs", "a.log"), onError);
  void log.write("stdout", "a word", 0);
  const common = { redis, keys, node: "n4", onError };
  const questions = new LogQuestions({ ...common, log: () => log, holdsId: () => true, nowMs: Date.now });
  const inbox = new InboxReader({
    ...common,
    openBlocking: () => openRedis(local.url, "blocking", () => undefined),
    onMessage: () => undefined,
    incarnation: () => 1,
    messagesHeld: () => 0,
    handlers: questions.handlers,
    leaseLeftMs: () => 60_000,
    redisNowMs: Date.now,
  });
  await inbox.start();
  try {
    const { response, body } = await ask("/v1/stitches/a/logs");
    assert.equal(response.status, 200, JSON.stringify(body));
    assert.deepEqual(body["items"], [{ at: new Date(0).toISOString(), source: "stdout", line: "a word" }]);
    const plain = await edge.fetch("/v1/stitches/a/logs", {
      headers: { authorization: `Bearer ${TOKEN}`, accept: "text/plain" },
    });
    await checkAnswer("GET", "/v1/stitches/a/logs", plain);
    assert.equal(await plain.text(), "a word\n");
    const stream = await edge.fetch("/v1/stitches/a/logs?tail=1", {
      headers: { authorization: `Bearer ${TOKEN}`, accept: "text/event-stream" },
    });
    await checkAnswer("GET", "/v1/stitches/a/logs?tail=1", stream);
    assert.ok(stream.body);
    const reader = stream.body.getReader();
    let text = "";
    for (const wanted of ["a word", "another"]) {
      while (!text.includes(wanted)) {
        const { value, done } = await reader.read();
        assert.equal(done, false, `the stream ended after: ${text}`);
        text += new TextDecoder().decode(value as Uint8Array);
      }
      void log.write("stdout", "another", 0);
    }
    await reader.cancel();
  } finally {
    await questions.stop(2000);
    await inbox.stop(2000);
    log.close();
  }
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

test("requests are refused if no token is set", async () => {
  await edge.update((options) => ({
    ...options,
    workers: (options.workers ?? []).map((worker) => ({ ...worker, vars: { REDIS_URL: "redis://127.0.0.1:1" } })),
  }));
  const { response, body } = await ask("/v1/cluster");
  assert.deepEqual([response.status, body["code"]], [403, "forbidden"]);
  assert.match(String(body["detail"]), /STITCH_TOKEN/);
});
