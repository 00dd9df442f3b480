// The errors that only the HTTP API on Node has: without a token, at its start and at its end.
import assert from "node:assert/strict";
import { request as httpRequest } from "node:http";
import { after, before, test } from "node:test";
import { createApp } from "../../src/api/app.ts";
import { backendOf } from "../../src/api/backend.ts";
import type { Api } from "../../src/api/deps.ts";
import { startApi } from "../../src/api/node.ts";
import { loadConfig } from "../../src/config.ts";
import type { OpenMaster } from "../../src/master/open-master.ts";
import type { RunningPart } from "../../src/running-part.ts";
import { checkAnswer } from "../support/checked-fetch.ts";
import { REDISES, TestCluster } from "../support/cluster.ts";
import { ping, problemOf, type Requests, requestsTo } from "../support/http-requests.ts";
import { registerTestNode } from "../support/register-test-node.ts";

const redisUrl = REDISES[0]?.url ?? "";
const cluster = new TestCluster(redisUrl);
let open: OpenMaster;
let api: RunningPart;
let url = "";
const send: Requests["send"] = (...request) => requestsTo(url).send(...request);
const fails: Requests["fails"] = (...request) => requestsTo(url).fails(...request);

const config = (over: Record<string, string> = {}) =>
  loadConfig({
    REDIS_URL: redisUrl,
    STITCH_CLUSTER: cluster.name,
    STITCH_PORT: "0",
    STITCH_LOG_LEVEL: "silent",
    ...over,
  });
const urlOf = ({ ready }: RunningPart): string => /http:[^\s,]+/.exec(ready)?.[0] ?? "";

before(async () => {
  ({ open } = await cluster.start());
  api = await startApi(config());
  url = urlOf(api);
  await registerTestNode(open.redis, open.keys, "n1");
});

after(async () => {
  await api.stop();
  await cluster.stop();
});

test("forbidden, without a token, for other hosts and for pages of another origin", async () => {
  await fails("forbidden", "/v1/commands", { body: ping(), headers: { origin: "http://evil.example" } });
  await fails("forbidden", "/v1/cluster", { headers: { origin: "null" } });
  assert.equal((await send("/v1/cluster", { headers: { origin: url } })).status, 200);
  assert.equal(await statusWithHost("evil.example"), 403);
  assert.equal(await statusWithHost("localhost.evil.example"), 403);
  assert.equal(await statusWithHost("localhost"), 200);
  assert.equal(await statusWithHost("[::1]:80"), 200);
});

/** Sends this Host header, which `fetch` does not let a caller choose. */
function statusWithHost(host: string): Promise<number | undefined> {
  return new Promise((resolve, reject) => {
    const sent = httpRequest(`${url}/v1/cluster`, { headers: { host } }, (response) => {
      response.resume();
      resolve(response.statusCode);
    });
    sent.on("error", reject);
    sent.end();
  });
}

test("rate_limited for one stream more than the limit", async () => {
  const shutdown = new AbortController();
  const app = createApp({ ...appDeps(open), maxStreams: 1, shutdown: shutdown.signal });
  const request = requester(app);
  const first = await request("/v1/events");
  assert.equal(first.status, 200);
  await problemOf(await request("/v1/events"), "rate_limited");
  const headers = { accept: "text/event-stream" };
  await problemOf(await request("/v1/stitches/a/logs", { headers }), "rate_limited");
  await first.body?.cancel();
  const next = await request("/v1/events");
  assert.equal(next.status, 200);
  shutdown.abort();
  await next.text();
});

const requester = (app: Api) => async (path: string, init?: RequestInit) => {
  const response = await app.request(`http://localhost${path}`, init);
  await checkAnswer("GET", path, response);
  return response;
};

const appDeps = (on: OpenMaster) => ({
  open: () => backendOf(on),
  limits: null,
  access: { kind: "loopback" } as const,
  nowMs: () => performance.now(),
  onError: () => undefined,
  shutdown: new AbortController().signal,
});

test("shutting_down for new requests, and for one that still waits", async () => {
  const app = createApp({ ...appDeps(open), shutdown: AbortSignal.abort() });
  const request = requester(app);
  await problemOf(await request("/v1/cluster"), "shutting_down");
  assert.equal((await request("/livez")).status, 200);

  const second = await startApi(config());
  const reason = "waits while the API stops";
  const waiting = requestsTo(urlOf(second)).send("/v1/commands?waitMs=60000", { body: ping({ reason }) });
  while (!(await (await send("/v1/jobs?limit=1")).text()).includes(reason)) continue;
  const startMs = performance.now();
  await Promise.all([second.stop(), second.stop(), waiting.then((response) => problemOf(response, "shutting_down"))]);
  await second.ended;
  const tookMs = performance.now() - startMs;
  // A stop may take 5 s; requests under way get half of that.
  assert.ok(tookMs < 5000, `${tookMs} ms`);
});

test("the API does not start open to the network without a strong token, without Redis, or on a taken port", async () => {
  await assert.rejects(startApi(config({ STITCH_HOST: "0.0.0.0" })), /STITCH_TOKEN/);
  for (const STITCH_HOST of ["0.0.0.0", "::", "192.0.2.1"])
    await assert.rejects(
      startApi(config({ STITCH_HOST, STITCH_TOKEN: "x".repeat(31) })),
      /STITCH_TOKEN: .*32 characters/,
    );
  const open = await startApi(config({ STITCH_HOST: "0.0.0.0", STITCH_TOKEN: "x".repeat(32) }));
  await open.stop();
  await assert.rejects(startApi(config({ REDIS_URL: "" })), /REDIS_URL.*stitch up/s);
  await assert.rejects(startApi(config({ STITCH_PORT: new URL(url).port })), /STITCH_PORT/);
});
