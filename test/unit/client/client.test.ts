import assert from "node:assert/strict";
import { test } from "node:test";
import { allItems, firstItems } from "../../../src/client/all-items.ts";
import { ApiError, ApiUnreachable, createClient, NotTheApi } from "../../../src/client/client.ts";
import { CannedApi, job, problem, sendJson } from "../cli/canned-api.ts";

test("each call makes its request, leaves out what is undefined and escapes ids", async () => {
  await using api = await CannedApi.start((_, response) => sendJson(response, 200, { items: [], nextCursor: null }));
  const client = createClient({ url: `${api.url}/` });
  await client.cluster();
  await client.nodes({ liveness: "alive", zone: undefined, limit: 5 });
  await client.node("n1");
  await client.forgetNode("n1");
  await client.stitches({ group: "shop.orders" });
  await client.stitch("n1:a/b");
  await client.logs("n1:a", { tail: 5 });
  await client.groups();
  await client.group("shop");
  await client.events({ since: "1-0" });
  await client.command({ command: "node.ping", target: "n1" }, { waitMs: 5, idempotencyKey: "k" });
  await client.plan({ command: "node.ping", target: "n1" });
  await client.jobs({ status: "running", cursor: "c=1" });
  await client.job("j1", { waitMs: 7 });
  await client.steps("j1", { node: "n1" });
  await client.cancelJob("j1");
  await client.send({ to: { stitch: "a" }, data: { x: 1 } }, { idempotencyKey: "m" });
  await client.deadLetters({ node: "n1", stitch: undefined });
  await client.redriveDeadLetter("n1.1-0");
  await client.deleteDeadLetter("n1.1-0");
  assert.deepEqual(
    api.asked.map(({ method, url }) => `${method} ${url}`),
    [
      "GET /v1/cluster",
      "GET /v1/nodes?liveness=alive&limit=5",
      "GET /v1/nodes/n1",
      "DELETE /v1/nodes/n1",
      "GET /v1/stitches?group=shop.orders",
      "GET /v1/stitches/n1%3Aa%2Fb",
      "GET /v1/stitches/n1%3Aa/logs?tail=5",
      "GET /v1/groups",
      "GET /v1/groups/shop",
      "GET /v1/events?since=1-0",
      "POST /v1/commands?waitMs=5",
      "POST /v1/commands",
      "GET /v1/jobs?status=running&cursor=c%3D1",
      "GET /v1/jobs/j1?waitMs=7",
      "GET /v1/jobs/j1/steps?node=n1",
      "POST /v1/jobs/j1/cancel",
      "POST /v1/messages",
      "GET /v1/dead-letters?node=n1",
      "POST /v1/dead-letters/n1.1-0/redrive",
      "DELETE /v1/dead-letters/n1.1-0",
    ],
  );
  assert.deepEqual(api.asked[11]?.body, { command: "node.ping", target: "n1", dryRun: true });
  assert.equal(api.asked[10]?.headers["idempotency-key"], "k");
  assert.deepEqual(api.asked[16]?.body, { to: { stitch: "a" }, data: { x: 1 } });
  assert.equal(api.asked[16]?.headers["idempotency-key"], "m");
  assert.equal(api.asked[0]?.headers.authorization, undefined);
});

test("an answer may take 15 s longer than the wait that the request asks for", async (t) => {
  await using api = await CannedApi.start((_, response) => sendJson(response, 200, {}));
  const client = createClient({ url: api.url });
  const timeout = t.mock.method(AbortSignal, "timeout");
  const [to, data] = [{ stitch: "a" }, ""];
  await client.cluster();
  await client.job("j1", { waitMs: 7 });
  await client.send({ to, data, timeoutMs: 60_000 });
  await client.send({ to, data, expect: "ack" });
  await client.send({ to, data, expect: "reply", timeoutMs: 60_000 });
  assert.deepEqual(
    timeout.mock.calls.map((call) => call.arguments[0]),
    [15_000, 15_007, 15_000, 20_000, 75_000],
  );
});

test("a problem document becomes an ApiError with its fields, and Retry-After in milliseconds", async () => {
  await using api = await CannedApi.start((_, response) =>
    sendJson(response, 503, problem(503, "redis_unavailable"), { "retry-after": "2" }),
  );
  await assert.rejects(createClient({ url: api.url }).cluster(), (error) => {
    assert.ok(error instanceof ApiError);
    const { status, code, detail, retryAfterMs } = error;
    assert.deepEqual([status, code, detail, retryAfterMs], [503, "redis_unavailable", "about redis_unavailable", 2000]);
    return true;
  });
});

test("a refused or cut connection is ApiUnreachable; another program or a redirect is NotTheApi", async () => {
  const gone = await CannedApi.start(() => undefined);
  const { url } = gone;
  await gone[Symbol.asyncDispose]();
  await assert.rejects(
    createClient({ url }).cluster(),
    (error) =>
      error instanceof ApiUnreachable && error.refused && error.url === url && /ECONNREFUSED/.test(error.message),
  );
  await using api = await CannedApi.start((_, response) => {
    response.destroy();
  });
  const client = createClient({ url: api.url });
  await assert.rejects(client.cluster(), (error) => error instanceof ApiUnreachable && !error.refused);
  api.answerWith((_, response) => {
    response.writeHead(502, { "content-type": "text/html" }).end("<html>");
  });
  await assert.rejects(client.cluster(), NotTheApi);
  api.answerWith((_, response) => {
    response.writeHead(307, { location: "http://127.0.0.1:9/" }).end();
  });
  await assert.rejects(client.cluster(), NotTheApi);
});

test("an aborted call fails with the signal's reason", async () => {
  const stop = new AbortController();
  await using api = await CannedApi.start(() => stop.abort(new Error("enough")));
  await assert.rejects(createClient({ url: api.url }).cluster({ signal: stop.signal }), /enough/);
});

test("the answer to a replayed command says that it is replayed", async () => {
  await using api = await CannedApi.start((_, response) =>
    sendJson(response, 200, job("succeeded"), { "idempotent-replayed": "true" }),
  );
  const answer = await createClient({ url: api.url }).command({ command: "node.ping", target: "n1" });
  assert.deepEqual(answer, { job: job("succeeded"), replayed: true });
});

test("allItems returns all pages of a list as one", async () => {
  const pages: Record<string, { items: number[]; nextCursor: string | null; asOf: string }> = {
    first: { items: [1, 2], nextCursor: "b", asOf: "t1" },
    b: { items: [], nextCursor: "c", asOf: "t2" },
    c: { items: [3], nextCursor: null, asOf: "t3" },
  };
  const list = await allItems(async (cursor) => {
    const page = pages[cursor ?? "first"];
    assert.ok(page);
    return page;
  });
  assert.deepEqual(list, { items: [1, 2, 3], nextCursor: null, asOf: "t1" });
});

test("firstItems returns the first items of a list, over pages that a filter has made short", async () => {
  const asked: unknown[] = [];
  const pages = [[1], [], [2, 3], [4]];
  const page = (left: number, cursor: string | undefined) => {
    asked.push([left, cursor]);
    const items = (pages[Number(cursor ?? 0)] ?? []).slice(0, left);
    return Promise.resolve({ items, nextCursor: String(Number(cursor ?? 0) + 1), asOf: "t" });
  };
  assert.deepEqual(await firstItems(3, page), { items: [1, 2, 3], nextCursor: "3", asOf: "t" });
  assert.deepEqual(asked, [
    [3, undefined],
    [2, "1"],
    [2, "2"],
  ]);
});
