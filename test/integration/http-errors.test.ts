// Provokes each error of the HTTP API (http.md, Errors), against an API process's own code and a real Redis.
import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { request as httpRequest } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { createApp } from "../../src/api/app.ts";
import type { Api } from "../../src/api/deps.ts";
import { backendOf } from "../../src/api/backend.ts";
import { startApi } from "../../src/api/node.ts";
import { type LocalRedis, startLocalRedis } from "../../src/cli/processes/local-redis.ts";
import { ConfigError, loadConfig } from "../../src/config.ts";
import { ERRORS, type ErrorCode } from "../../src/domain/errors.ts";
import type { ProblemResource } from "../../src/contract/problem.ts";
import type { JobResource } from "../../src/contract/job.ts";
import { type OpenMaster, openMaster } from "../../src/master/open-master.ts";
import { emitEvents } from "../../src/redis/events.ts";
import { MAX_ENTRIES } from "../../src/redis/inbox/inbox.ts";
import { leaveNode } from "../../src/redis/node/node-lease.ts";
import type { RunningPart } from "../../src/running-part.ts";
import { besideProbes } from "../support/beside-probes.ts";
import { checkAnswer, checkedFetch } from "../support/checked-fetch.ts";
import { until } from "../support/cluster.ts";
import { publishTestStitch } from "../support/publish-test-stitch.ts";
import { registerTestNode } from "../support/register-test-node.ts";
import type { StitchResource } from "../../src/contract/stitch.ts";
import { stitchSpec } from "../../src/domain/stitch/spec.ts";
import { hashOf, stored } from "../support/test-spec.ts";

const CLUSTER = `http-errors-${process.pid}`;
const TOKEN = "a-token-canary";
const SPEC = { adaptor: "process", command: ["true"], protocol: "none" };

let dir = "";
let local: LocalRedis | null = null;
let redisUrl = "";
let open: OpenMaster;
let api: RunningPart;
let url = "";

const config = (over: Record<string, string> = {}) =>
  loadConfig({
    REDIS_URL: redisUrl,
    STITCH_CLUSTER: CLUSTER,
    STITCH_PORT: "0",
    STITCH_LOG_LEVEL: "silent",
    ...over,
  });
const urlOf = ({ ready }: RunningPart): string => /http:[^\s,]+/.exec(ready)?.[0] ?? "";
const openHere = (redis: string) =>
  openMaster({
    redisUrl: redis,
    cluster: CLUSTER,
    chosen: { mode: "leaderless", preferred: null, lease: null },
    candidacy: null,
    wrap: null,
    id: "test",
    deadAfterMs: 2000,
    jobRetentionMs: 60_000,
    onError: () => undefined,
    connectTimeoutMs: 5000,
    checkFirst: true,
  });

before(async () => {
  dir = await mkdtemp(join(tmpdir(), "crossstitch-http-"));
  const given = process.env["TEST_REDIS_URL"];
  if (given === undefined) local = await startLocalRedis({ dir: join(dir, "redis") });
  redisUrl = given ?? local?.url ?? "";
  open = await openHere(redisUrl);
  api = await startApi(config());
  url = urlOf(api);
  await registerTestNode(open.redis, open.keys, "n1");
});

after(async () => {
  await api.stop();
  await open.redis.del(...(await open.redis.keys(`cs:${CLUSTER}*`)));
  open.close();
  await local?.stop();
  await rm(dir, { recursive: true, force: true });
});

type Sent = {
  method?: string;
  body?: unknown;
  text?: string | Uint8Array<ArrayBuffer>;
  headers?: Record<string, string>;
  at?: string;
};

function send(path: string, { method, body, text, headers = {}, at = url }: Sent = {}): Promise<Response> {
  const json = text ?? (body === undefined ? null : JSON.stringify(body));
  return checkedFetch(at + path, {
    method: method ?? (json === null ? "GET" : "POST"),
    body: json,
    headers: { ...(json === null ? {} : { "content-type": "application/json" }), ...headers },
  });
}

/** Checks all that holds for every problem document. */
async function problemOf(response: Response, code: ErrorCode): Promise<ProblemResource> {
  const problem = (await response.json()) as ProblemResource;
  const { status, retryable } = ERRORS[code];
  assert.equal(problem.code, code, JSON.stringify(problem));
  assert.equal(response.status, status);
  assert.equal(problem.status, status);
  assert.equal(problem.retryable, retryable);
  assert.equal(problem.type, `urn:crossstitch:error:${code}`);
  assert.equal(response.headers.get("content-type"), "application/problem+json");
  assert.equal(response.headers.get("x-request-id"), problem.requestId);
  assert.equal(response.headers.has("retry-after"), status === 429 || status === 503);
  assert.ok(problem.title !== "" && problem.detail !== "");
  return problem;
}

const fails = async (code: ErrorCode, path: string, sent?: Sent) => problemOf(await send(path, sent), code);
/** Like `fails`, but asks again while Redis is too slow, as on a busy machine. */
const failsOnceRedisAnswers = async (code: ErrorCode, path: string, sent?: Sent) => {
  const response = await until("Redis answers in time", async () => {
    const answer = await send(path, sent);
    return (answer.status !== 503 || !(await answer.clone().text()).includes('"redis_unavailable"')) && answer;
  });
  return problemOf(response, code);
};
const ping = (extra: Record<string, unknown> = {}) => ({ command: "node.ping", target: "n1", ...extra });
const create = (extra: Record<string, unknown> = {}) => ({
  command: "stitch.create",
  target: "shop.orders.1",
  spec: SPEC,
  ...extra,
});

test("invalid_request names each wrong field", async () => {
  const { errors } = await fails("invalid_request", "/v1/commands", { body: ping({ deadlineMs: 0, nope: 1 }) });
  assert.deepEqual(errors?.map(({ path }) => path).sort(), ["deadlineMs", "nope"]);
  const nested = await fails("invalid_request", "/v1/commands", { body: create({ spec: { ...SPEC, cwd: "rel" } }) });
  assert.deepEqual(
    nested.errors?.map(({ path }) => path),
    ["spec.cwd"],
  );
  for (const body of [[], "text", 5, null, { target: "n1" }]) await fails("invalid_request", "/v1/commands", { body });
  for (const path of [
    "/v1/nodes?nope=1",
    "/v1/nodes?limit=0",
    "/v1/nodes?limit=1001",
    "/v1/nodes?limit=1&limit=2",
    "/v1/nodes?liveness=happy",
    "/v1/nodes?cursor=x",
    "/v1/nodes/Not-An-Id",
    "/v1/nodes/%ff",
    "/v1/cluster?x=1",
    "/v1/cluster?__proto__=1",
    "/v1/cluster?constructor=1",
    "/v1/stitches/a:b:c",
    "/v1/groups/a.b.c.d",
    "/v1/jobs/nope",
    "/v1/events?type=node.nope",
    "/v1/events?since=yesterday",
    "/v1/events?since=2026-11-23T09:00:00",
    "/v1/events?cursor=1-0",
    "/v1/stitches/a/logs?tail=-1",
    "/v1/stitches/a/logs?tail=10001",
    "/v1/stitches/a/logs?tail=many",
    "/v1/stitches/a/logs?limit=1",
    "/v1/stitches/A/logs",
  ])
    await fails("invalid_request", path);
  await fails("invalid_request", "/v1/commands?waitMs=60001", { body: ping() });
  const stream = { accept: "text/event-stream", "last-event-id": "yesterday" };
  const { errors: wrong } = await fails("invalid_request", "/v1/stitches/a/logs", { headers: stream });
  assert.equal(wrong?.[0]?.path, "Last-Event-ID");
  const key = await fails("invalid_request", "/v1/commands", {
    body: ping(),
    headers: { "idempotency-key": "k".repeat(129) },
  });
  assert.equal(key.errors?.[0]?.path, "Idempotency-Key");
});

test("invalid_json says what is wrong with the text", async () => {
  const detailOf = async (text: string | Uint8Array<ArrayBuffer>) =>
    (await fails("invalid_json", "/v1/commands", { text, method: "POST" })).detail;
  for (const text of ["{", "", '{"a":}']) assert.doesNotMatch(await detailOf(text), /UTF-8|nested/);
  for (const text of ["[".repeat(101), "[".repeat(100_000) + "]".repeat(100_000)])
    assert.match(await detailOf(text), /it is nested too deeply/);
  assert.match(await detailOf(Uint8Array.of(0x22, 0xff, 0x22)), /it is not UTF-8/);
});

test("unknown_command lists the known commands", async () => {
  const { detail } = await fails("unknown_command", "/v1/commands", { body: { command: "node.dance", target: "n1" } });
  assert.match(detail, /node\.ping.*stitch\.create/);
  await fails("unknown_command", "/v1/commands", { body: { command: "__proto__", target: "n1" } });
});

test("unsupported_media_type for text/plain; too_large for large bodies", async () => {
  await fails("unsupported_media_type", "/v1/commands", { text: "{}", headers: { "content-type": "text/plain" } });
  const reason = "x".repeat(256 * 1024);
  await fails("too_large", "/v1/commands", { body: ping({ reason }) });
  await fails("too_large", "/v1/commands", { body: create({ spec: { ...SPEC, command: Array(100_000).fill(1) } }) });
  await fails("too_large", "/v1/messages", { body: { to: { stitch: "a" }, data: "x".repeat(4 * 1024 * 1024) } });
});

test("not_found for routes and targets; method_not_allowed with the Allow header", async () => {
  for (const path of [
    "/",
    "/v1",
    "/v2/nodes",
    "/v1/nodes/",
    "/v1/nodes/none",
    "/v1/stitches/none",
    "/v1/stitches/n1:x",
    "/v1/stitches/none/logs",
    "/v1/stitches/n1:x/logs",
    "/v1/stitches/nowhere:x/logs",
  ])
    await fails("not_found", path);
  await fails("not_found", "/v1/groups/none");
  await fails("not_found", `/v1/jobs/j${"a".repeat(26)}`);
  await fails("not_found", `/v1/jobs/j${"a".repeat(26)}/steps`);
  await fails("not_found", `/v1/jobs/j${"a".repeat(26)}/cancel`, { method: "POST" });
  for (const act of ["retry", "rollback"])
    await fails("not_found", `/v1/jobs/j${"a".repeat(26)}/${act}`, { method: "POST" });
  await fails("not_found", "/v1/commands", { body: ping({ target: "none" }) });
  const response = await send("/v1/nodes/n1", { method: "PATCH" });
  assert.deepEqual(response.headers.get("allow")?.split(", ").sort(), ["DELETE", "GET", "HEAD"]);
  await problemOf(response, "method_not_allowed");
});

test("idempotency_conflict for another body under the same key; a header marks a replay", async () => {
  const headers = { "idempotency-key": "one" };
  const first = await send("/v1/commands", { body: ping(), headers });
  const again = await send("/v1/commands", { body: ping(), headers });
  assert.deepEqual([first.status, again.status], [202, 202]);
  assert.deepEqual(
    [first.headers.get("idempotent-replayed"), again.headers.get("idempotent-replayed")],
    [null, "true"],
  );
  assert.equal(((await first.json()) as { id: string }).id, ((await again.json()) as { id: string }).id);
  await fails("idempotency_conflict", "/v1/commands", { body: ping({ reason: "other" }), headers });
});

test("placement_failed with the refusals; plan_stale with the new plan", async () => {
  const resources = { cpu: 4000, memoryBytes: 0 };
  const failed = await fails("placement_failed", "/v1/commands", { body: create({ spec: { ...SPEC, resources } }) });
  assert.equal(failed.refusals?.[0]?.code, "cpu");
  const dry = await send("/v1/commands", { body: create({ dryRun: true }) });
  assert.equal(dry.status, 200);
  const { plan } = await fails("plan_stale", "/v1/commands", { body: create({ planToken: "of-another-plan" }) });
  assert.equal(plan?.feasible, true);
});

test("job_finished for the cancel of a job that has ended", async () => {
  const { id } = (await (await send("/v1/commands", { body: ping() })).json()) as { id: string };
  const cancelled = await send(`/v1/jobs/${id}/cancel`, { method: "POST" });
  assert.equal(cancelled.status, 200);
  assert.equal(((await cancelled.json()) as { status: string }).status, "cancelled");
  await fails("job_finished", `/v1/jobs/${id}/cancel`, { method: "POST" });
});

const post = async (path: string, body?: unknown) =>
  (await (await send(path, { method: "POST", body })).json()) as JobResource;

test("retry: a job that did not succeed becomes one new job; job_finished for one that did", async () => {
  const { id } = await post("/v1/commands", ping());
  await post(`/v1/jobs/${id}/cancel`);
  const { retryOf, id: again } = await post(`/v1/jobs/${id}/retry`);
  assert.equal(retryOf, id);
  assert.equal((await post(`/v1/jobs/${id}/retry`)).id, again);
  assert.equal(((await (await send(`/v1/jobs/${id}`)).json()) as JobResource).retriedBy, again);
  await fails("invalid_request", `/v1/jobs/${id}/retry`, { body: {} });
  await fails("invalid_request", "/v1/jobs/nope/retry", { method: "POST" });

  await registerTestNode(open.redis, open.keys, "c1");
  const cordon = await post("/v1/commands?waitMs=10000", { command: "node.cordon", target: "c1" });
  assert.equal(cordon.status, "succeeded");
  await fails("job_finished", `/v1/jobs/${cordon.id}/retry`, { method: "POST" });
  const back = await post(`/v1/jobs/${cordon.id}/rollback`);
  assert.deepEqual([back.command, back.rollbackOf], ["node.uncordon", cordon.id]);
});

test("a rollback has its own reason or none, never the reason of the job that it rolls back", async () => {
  await registerTestNode(open.redis, open.keys, "c2");
  const cordon = async () => {
    const body = { command: "node.cordon", target: "c2", reason: "its disk is full" };
    return (await post("/v1/commands?waitMs=10000", body)).id;
  };
  const first = await cordon();
  for (const body of [{ reason: 5 }, { reason: "x".repeat(1001) }, { other: 1 }, null])
    await fails("invalid_request", `/v1/jobs/${first}/rollback`, { body });
  const back = await post(`/v1/jobs/${first}/rollback`, { reason: "the disk was changed" });
  assert.deepEqual([back.rollbackOf, back.reason], [first, "the disk was changed"]);
  const again = await post(`/v1/jobs/${first}/rollback`, { reason: "another" });
  assert.deepEqual([again.id, again.reason], [back.id, "the disk was changed"]);
  assert.equal((await post(`/v1/jobs/${await cordon()}/rollback`)).reason, null);
});

test("retry: not_found if the stitch that the job did not reach is gone", async () => {
  await publishTestStitch(open, "n1", "passing");
  const { id } = await post("/v1/commands", { command: "stitch.stop", target: "passing" });
  await post(`/v1/jobs/${id}/cancel`);
  await open.redis.hdel(open.keys.nodeStitches("n1"), "passing");
  await fails("not_found", `/v1/jobs/${id}/retry`, { method: "POST" });
});

test("retry: placement_failed if every node already has its share of the group", async () => {
  const target = "full.one.1";
  const { id } = await post("/v1/commands", { ...create(), target, placement: { maxPerNode: 1 } });
  await post(`/v1/jobs/${id}/cancel`);
  const { items } = await open.master.state.nodes({ limit: 100, cursor: null }, {});
  for (const node of items) await publishTestStitch(open, node.id, "full", target);
  const { refusals } = await fails("placement_failed", `/v1/jobs/${id}/retry`, { method: "POST" });
  assert.ok(refusals?.some(({ code }) => code === "max_per_node"));
});

test("a job and its retry name each other, even if the Master died before it wrote the link", async () => {
  const { id } = await post("/v1/commands", ping());
  await post(`/v1/jobs/${id}/cancel`);
  const { id: again } = await post(`/v1/jobs/${id}/retry`);
  await open.redis.hdel(open.keys.job(id), "retriedBy");
  await post(`/v1/jobs/${again}/cancel`);
  await until("the first tells of it", async () => (await open.master.commands.job(id, 0)).retriedBy === again);
});

test("not_reversible for a job that changed nothing, and for one that has no inverse", async () => {
  const { id } = await post("/v1/commands", ping());
  await post(`/v1/jobs/${id}/cancel`);
  const { detail } = await fails("not_reversible", `/v1/jobs/${id}/rollback`, { method: "POST" });
  assert.match(detail, /a ping changes nothing/);
  const stop = await post("/v1/commands", create({ id: "never", node: "n1" }));
  await post(`/v1/jobs/${stop.id}/cancel`);
  await fails("not_reversible", `/v1/jobs/${stop.id}/rollback`, { method: "POST" });
});

test("no_template for a group without a template; group_busy names the job that holds the group", async () => {
  const scale = (count: number, target = "busy.one.1") => ({ command: "group.scale", target, count });
  await fails("no_template", "/v1/commands", { body: scale(1) });
  await registerTestNode(open.redis, open.keys, "b1");
  await publishTestStitch(open, "b1", "first", "busy.one.1");
  // The job stays open, because the node has no worker.
  const { id } = await post("/v1/commands", scale(2));
  const inTheWay = [
    await fails("group_busy", "/v1/commands", { body: scale(3) }),
    await fails("group_busy", "/v1/commands", { body: { command: "group.restart", target: "busy" } }),
    await fails("group_busy", `/v1/jobs/${id}/retry`, { method: "POST" }),
    await fails("group_busy", `/v1/jobs/${id}/rollback`, { method: "POST" }),
  ];
  for (const { jobId } of inTheWay) assert.equal(jobId, id);
  await post(`/v1/jobs/${id}/cancel`);
  const next = await post("/v1/commands", scale(1));
  assert.equal(next.command, "group.scale");
});

test("spec_unknown for a stitch that a node publishes and no Master has assigned, until the node is adopted", async () => {
  const { redis, keys } = open;
  await registerTestNode(redis, keys, "shows");
  await publishTestStitch(open, "shows", "shown", "shown.one.1");
  await redis.hdel(keys.nodeAssigned("shows"), "shown");
  for (const body of [
    { command: "stitch.clone", target: "shown" },
    { command: "stitch.move", target: "shows:shown" },
    { command: "group.scale", target: "shown.one.1", count: 2 },
    { command: "stitch.clone", target: "shown", dryRun: true },
  ]) {
    const { detail } = await fails("spec_unknown", "/v1/commands", { body });
    assert.match(detail, /"shows:shown".*stitch adopt shows/);
  }
  await fails("not_found", "/v1/nodes/nobody/adopt", { method: "POST" });
  await fails("invalid_request", "/v1/nodes/shows/adopt", { body: { force: true } });
  await fails("invalid_request", "/v1/nodes/shows/adopt?force=true", { method: "POST" });
  await fails("method_not_allowed", "/v1/nodes/shows/adopt");
  const adopt = async () => (await send("/v1/nodes/shows/adopt", { method: "POST" })).json();
  assert.deepEqual(await adopt(), { node: "shows", adopted: ["shows:shown"], unknown: [] });
  assert.deepEqual(await adopt(), { node: "shows", adopted: [], unknown: [] });
  const { id } = await post("/v1/commands", { command: "stitch.clone", target: "shown" });
  await post(`/v1/jobs/${id}/cancel`);
  // A forged record over an assigned stitch, with a spec that its node offers: adopt does not change the assignment.
  const offered = stored(stitchSpec.parse({ adaptor: "process", command: ["evil"] }));
  const huge = `{}${" ".repeat(2 ** 21)}`;
  const forge = async (specHash: string) => {
    const record = JSON.parse((await redis.hget(keys.nodeStitches("shows"), "shown")) ?? "") as object;
    await redis.hset(keys.nodeStitches("shows"), "shown", JSON.stringify({ ...record, specHash }));
  };
  await redis.hset(keys.nodeSpecs("shows"), { [offered.specHash]: offered.text, [hashOf(huge)]: huge });
  for (const hash of [offered.specHash, hashOf(huge)]) {
    await forge(hash);
    assert.deepEqual(await adopt(), { node: "shows", adopted: [], unknown: [] });
    assert.equal(await redis.exists(keys.spec(hash)), 0);
  }
  const shown = (await (await send("/v1/stitches/shows:shown")).json()) as StitchResource;
  assert.deepEqual([shown.specHash, shown.spec], [hashOf(huge), null], "what is too long is no spec");
});

test("node_alive for a live node; 204 when a node that left is forgotten", async () => {
  await fails("node_alive", "/v1/nodes/n1", { method: "DELETE" });
  const session = await registerTestNode(open.redis, open.keys, "n2");
  await leaveNode(open.redis, open.keys, "n2", session);
  assert.equal((await send("/v1/nodes/n2", { method: "DELETE" })).status, 204);
  await fails("not_found", "/v1/nodes/n2", { method: "DELETE" });
});

test("ambiguous_stitch names the candidates; stitch_exists for a taken id", async () => {
  for (const node of ["a1", "a2"]) {
    await registerTestNode(open.redis, open.keys, node);
    await publishTestStitch(open, node, "twin");
  }
  const { candidates } = await fails("ambiguous_stitch", "/v1/stitches/twin");
  assert.deepEqual(candidates, ["a1:twin", "a2:twin"]);
  assert.equal((await send("/v1/stitches/a1:twin")).status, 200);
  await fails("ambiguous_stitch", "/v1/stitches/twin/logs");
  await fails("stitch_exists", "/v1/commands", { body: create({ id: "twin", node: "a1" }) });
});

/** The forms in which a client can ask for a log. */
const FORMS = ["application/json", "text/plain", "text/event-stream"].map((accept) => ({ headers: { accept } }));

test("logs: node_unreachable if the node does not answer or has left; inbox_full if it has too much to do", async () => {
  const session = await registerTestNode(open.redis, open.keys, "mute");
  await publishTestStitch(open, "mute", "silent");
  const problems = await Promise.all(
    FORMS.map((form) => failsOnceRedisAnswers("node_unreachable", "/v1/stitches/silent/logs", form)),
  );
  for (const { detail } of problems) assert.match(detail, /mute did not answer/);

  const inbox = open.keys.nodeInbox("mute");
  const fill = Array.from({ length: MAX_ENTRIES }, () => open.redis.xadd(inbox, "*", "", ""));
  await Promise.all(fill);
  for (const form of FORMS) await fails("inbox_full", "/v1/stitches/mute:silent/logs", form);
  await leaveNode(open.redis, open.keys, "mute", session);
  for (const form of FORMS) {
    const { detail } = await fails("node_unreachable", "/v1/stitches/silent/logs", form);
    assert.match(detail, /mute has left/);
  }
  assert.deepEqual(await open.redis.keys(`cs:${CLUSTER}:{reply:*`), []);
});

test("events_gone for the stream and for the list", async () => {
  for (let count = 0; count < 3; count++) await emitEvents(open.redis, open.keys, [{ type: "cluster.frozen" }]);
  const [first] = (await open.master.state.events("0-0", 1)).items;
  await open.redis.xtrim(open.keys.events, "MAXLEN", 1);
  await fails("events_gone", `/v1/events?since=${first?.id}`);
  await fails("events_gone", "/v1/events", { headers: { "last-event-id": first?.id ?? "" } });
  await fails("events_gone", `/v1/events?since=${first?.id}`, { headers: { accept: "application/json" } });
});

test("internal does not reveal the reason", async () => {
  const canary = "a-broken-record-canary";
  await registerTestNode(open.redis, open.keys, "n3");
  await open.redis.hset(open.keys.nodeMeta("n3"), "facts", canary);
  const problem = await fails("internal", "/v1/nodes/n3");
  assert.ok(!JSON.stringify(problem).includes(canary));
  await open.redis.del(open.keys.nodeMeta("n3"));
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

test("unauthenticated, with a challenge, on every route except the probes", async () => {
  const guarded = await startApi(config({ STITCH_TOKEN: TOKEN }));
  const at = urlOf(guarded);
  try {
    for (const authorization of [undefined, "Bearer wrong", "Basic abc", "Bearer", "Bearer a b"]) {
      const response = await send("/v1/cluster", { at, headers: authorization === undefined ? {} : { authorization } });
      assert.match(response.headers.get("www-authenticate") ?? "", /^Bearer/);
      await problemOf(response, "unauthenticated");
    }
    for (const path of ["/metrics", "/openapi.json", "/nope"]) await fails("unauthenticated", path, { at });
    for (const path of ["/livez", "/readyz"]) assert.equal((await send(path, { at })).status, 200);
    assert.equal((await send("/v1/cluster", { at, headers: { authorization: `Bearer ${TOKEN}` } })).status, 200);
  } finally {
    await guarded.stop();
  }
});

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
  const waiting = send("/v1/commands?waitMs=60000", { at: urlOf(second), body: ping({ reason }) });
  while (!(await (await send("/v1/jobs?limit=1")).text()).includes(reason)) continue;
  const startMs = performance.now();
  await Promise.all([second.stop(), second.stop(), waiting.then((response) => problemOf(response, "shutting_down"))]);
  await second.ended;
  const tookMs = performance.now() - startMs;
  // A stop may take 5 s; requests under way get half of that.
  assert.ok(tookMs < 5000, `${tookMs} ms`);
});

test("redis_unavailable within 3 s while Redis hangs or is gone; then it works again", async () => {
  const own = await startLocalRedis({ dir: join(dir, "own") });
  const other = await startApi(config({ REDIS_URL: own.url }));
  const at = urlOf(other);
  try {
    own.kill("SIGSTOP");
    const startMs = performance.now();
    const answers = Promise.all([
      fails("redis_unavailable", "/v1/cluster", { at }),
      fails("redis_unavailable", "/readyz", { at }),
      fails("redis_unavailable", "/v1/commands", { at, body: ping() }),
      fails("redis_unavailable", "/v1/events", { at }),
    ]).then(() => performance.now() - startMs);
    const { done: tookMs, slowestMs } = await besideProbes(at, 4, answers);
    assert.ok(tookMs <= 3000 + 2 * slowestMs, `${tookMs} ms, where ${slowestMs} ms are the machine's`);
    assert.match(await (await send("/metrics", { at })).text(), /crossstitch_redis_up 0/);
    own.kill("SIGCONT");
    while ((await send("/readyz", { at })).status !== 200) continue;
    await own.stop();
    await fails("redis_unavailable", "/v1/cluster", { at });
    assert.equal((await send("/livez", { at })).status, 200);
  } finally {
    own.kill("SIGCONT");
    await other.stop();
    await own.stop();
  }
});

test("a request id of the client is kept if it is valid", async () => {
  const of = async (id: string) =>
    (await send("/livez", { headers: { "x-request-id": id } })).headers.get("x-request-id");
  assert.equal(await of("mine-1"), "mine-1");
  assert.notEqual(await of("not sane!"), "not sane!");
  assert.notEqual(await of("x".repeat(200)), "x".repeat(200));
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
  await assert.rejects(startApi(config({ STITCH_TOKEN: "with space" })), ConfigError);
  await assert.rejects(startApi(config({ STITCH_PORT: new URL(url).port })), /STITCH_PORT/);
});
