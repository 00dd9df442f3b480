import assert from "node:assert/strict";
import { test } from "node:test";
import { inspect } from "node:util";
import { ApiError, ApiUnreachable, createClient, NotTheApi } from "../../../src/client/client.ts";
import { CannedApi, job, problem, sendJson, sendPage } from "../cli/canned-api.ts";

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
      "GET /v1/stitches?group=shop.orders&limit=1000",
      "GET /v1/stitches/n1%3Aa%2Fb",
      "GET /v1/stitches/n1%3Aa/logs?tail=5",
      "GET /v1/groups?limit=1000",
      "GET /v1/groups/shop",
      "GET /v1/events?since=1-0&limit=1000",
      "POST /v1/commands?waitMs=5",
      "POST /v1/commands",
      "GET /v1/jobs?status=running&limit=100&cursor=c%3D1",
      "GET /v1/jobs/j1?waitMs=7",
      "GET /v1/jobs/j1/steps?node=n1&limit=1000",
      "POST /v1/jobs/j1/cancel",
      "POST /v1/messages",
      "GET /v1/dead-letters?node=n1&limit=100",
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
  api.answerWith((_, response) => sendPage(response, 403));
  await assert.rejects(client.cluster(), (error) => error instanceof NotTheApi && error.status === 403);
  api.answerWith((_, response) => {
    response.writeHead(307, { location: "http://127.0.0.1:9/" }).end();
  });
  await assert.rejects(client.cluster(), (error) => error instanceof NotTheApi && error.status === 307);
});

test("an answer that another program gave is NotTheApi with its status and the reason, and is not asked for again", async () => {
  let reply: { readonly status: number; readonly type: string; readonly body: string } | undefined;
  await using api = await CannedApi.start((_, response) => {
    const { status, type, body } = reply ?? assert.fail();
    response.writeHead(status, { "content-type": type }).end(status === 204 ? undefined : body);
  });
  const client = createClient({ url: api.url });
  const [problems, json] = ["application/problem+json", "application/json"];
  const cases = [
    [400, problems, "null", /without code, status and detail/],
    [400, problems, "{}", /without code, status and detail/],
    [400, problems, '{"code":7,"status":400,"detail":"x"}', /without code/],
    [400, problems, '{"code":"a","status":400}', /detail/],
    [400, problems, "<html>", /not JSON/],
    [200, "text/html", "<html>", /not JSON/],
    [200, json, "null", /not a JSON object/],
    [200, json, "[1]", /not a JSON object/],
    [200, json, "", /status 200 without a body/],
    [204, json, "", /status 204 without a body/],
  ] as const;
  const lists = [
    [200, json, "{}", /not a list/],
    [200, json, '{"items":{},"nextCursor":null}', /not a list/],
    [200, json, '{"items":[]}', /not a list/],
  ] as const;
  const ask = async (
    call: () => Promise<unknown>,
    [status, type, body, message]: (typeof cases | typeof lists)[number],
  ) => {
    reply = { status, type, body };
    const before = api.asked.length;
    await assert.rejects(call, (error) => {
      assert.ok(error instanceof NotTheApi, `${body}: ${String(error)}`);
      assert.deepEqual([error.status, error.url], [status, api.url]);
      assert.match(error.message, message);
      return true;
    });
    assert.equal(api.asked.length, before + 1, body);
  };
  for (const each of cases)
    for (const call of [
      () => client.cluster(),
      () => client.nodes(),
      () => client.cancelJob("j1"),
      () => client.command({ command: "node.ping", target: "n1" }),
      () => client.waitForJob("j1", { timeoutMs: 5000 }),
    ])
      await ask(call, each);
  for (const each of lists) for (const call of [() => client.nodes(), () => client.logs("n1:a")]) await ask(call, each);
  reply = { status: 204, type: json, body: "" };
  assert.equal(await client.forgetNode("n1"), undefined);
});

test("a read is repeated twice while a proxy answers for an API that is away; a command is not", async () => {
  let status = 0;
  let bad = 0;
  await using api = await CannedApi.start((_, response) => {
    if (bad-- > 0) sendPage(response, status);
    else sendJson(response, 200, { name: "blue" });
  });
  const client = createClient({ url: api.url });
  for (status of [502, 503, 504, 520, 527]) {
    bad = 2;
    assert.deepEqual(await client.cluster(), { name: "blue" });
  }
  assert.equal(api.asked.length, 5 * 3);
  status = 502;
  bad = 3;
  await assert.rejects(client.cluster(), (error) => {
    assert.ok(error instanceof NotTheApi && error.status === 502);
    assert.match(error.message, /a proxy answers so while the API behind it is away/);
    return true;
  });
  bad = 1;
  await assert.rejects(client.command({ command: "node.ping", target: "n1" }), NotTheApi);
  for (status of [500, 501, 505, 519, 528]) {
    bad = 1;
    await assert.rejects(client.cluster(), (error) => error instanceof NotTheApi && error.status === status);
  }
  assert.equal(api.asked.length, 5 * 3 + 3 + 1 + 5);
});

test("a URL or a token that cannot be used is a TypeError at once, which says why and repeats neither", async () => {
  let sent = 0;
  const fetch = async () => {
    sent += 1;
    return Response.json({ name: "blue" });
  };
  for (const [options, message] of [
    [{ token: "hunter2\nhunter2" }, /^token: it has a space or the end of a line in it, .*bearer token/],
    [{ token: "hunter2 " }, /^token: it has a space/],
    [{ token: "hunter2é" }, /^token: only letters, digits/],
    ...[
      "hunter2",
      "ftp://hunter2",
      "http://hunter2:hunter2@h",
      "http://h?hunter2",
      "http://h#hunter2",
      "http://h\n/hunter2",
    ].map((url) => [{ url }, /^url: must be an http or https address and nothing else, such as/] as const),
  ] as const)
    assert.throws(
      () => createClient({ url: "http://any", fetch, ...options }),
      (error) => {
        assert.ok(error instanceof TypeError);
        assert.match(error.message, message);
        assert.doesNotMatch(inspect(error), /hunter2/);
        return true;
      },
    );
  assert.equal(sent, 0);
  for (const [given, url] of [
    ["https://x.example/api//", "https://x.example/api"],
    ["HTTP://[::1]:80", "HTTP://[::1]:80"],
  ] as const) {
    const client = createClient({ url: given, token: "", fetch });
    assert.equal(client.url, url);
    await client.cluster();
  }
  assert.equal(sent, 2);
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

type Pages = Readonly<Record<string, { readonly items: readonly number[]; readonly next: string | null }>>;

/** An API whose list has these pages, by cursor; the first one has none. A page has at most as many items as asked for. */
function paged(pages: Pages): Promise<CannedApi> {
  return CannedApi.start(({ url }, response) => {
    const query = new URL(url, "http://any").searchParams;
    const cursor = query.get("cursor") ?? "";
    const { items, next } = pages[cursor] ?? assert.fail(url);
    const limit = Number(query.get("limit"));
    const page = { items: items.slice(0, limit), nextCursor: next, asOf: `read of ${cursor}` };
    sendJson(response, 200, page);
  });
}

const PAGES: Pages = {
  "": { items: [1, 2], next: "b" },
  b: { items: [], next: "c" },
  c: { items: [3, 4], next: "d" },
  d: { items: [5], next: null },
};

test("a list is read over all its pages, with its filter, and returned as one", async () => {
  await using api = await paged(PAGES);
  const client = createClient({ url: api.url });
  const whole = { items: [1, 2, 3, 4, 5], nextCursor: null, asOf: "read of " };
  assert.deepEqual(await client.nodes({ zone: "a" }), whole);
  assert.deepEqual(
    api.asked.map(({ url }) => url),
    ["", "&cursor=b", "&cursor=c", "&cursor=d"].map((cursor) => `/v1/nodes?zone=a&limit=1000${cursor}`),
  );
  for (const list of [
    client.stitches(),
    client.groups(),
    client.steps("j1"),
    client.events({ since: "1-0" }),
    client.jobs({ limit: undefined }),
    client.deadLetters(),
  ])
    assert.deepEqual(await list, whole);
});

test("limit ends a list early, over pages that a filter has made short, and its cursor continues it", async () => {
  await using api = await paged(PAGES);
  const client = createClient({ url: api.url });
  const { items, nextCursor } = await client.jobs({ limit: 4 });
  assert.deepEqual([items, nextCursor], [[1, 2, 3, 4], "d"]);
  assert.deepEqual(
    api.asked.map(({ url }) => url),
    ["limit=4", "limit=2&cursor=b", "limit=2&cursor=c"].map((query) => `/v1/jobs?${query}`),
  );
  const rest = await client.jobs({ limit: 4, cursor: nextCursor ?? assert.fail() });
  assert.deepEqual([rest.items, rest.nextCursor], [[5], null]);
  await client.stitches({ limit: 1500 });
  assert.equal(api.asked[4]?.url, "/v1/stitches?limit=1000", "no page has more");
});

test("a list that may be very long has 100 items by default", async () => {
  await using api = await paged({ "": { items: Array.from({ length: 100 }, (_, at) => at), next: "b" } });
  const client = createClient({ url: api.url });
  for (const list of [client.jobs(), client.events({ since: undefined }), client.deadLetters({ limit: undefined })])
    assert.equal((await list).nextCursor, "b");
  assert.equal(api.asked.length, 3);
});

test("events are in order of time, also where the pages go back", async () => {
  await using api = await paged({
    "": { items: [5, 6], next: "before-5" },
    "before-5": { items: [3, 4], next: "before-3" },
    "before-3": { items: [1, 2], next: null },
  });
  const client = createClient({ url: api.url });
  assert.deepEqual((await client.events()).items, [1, 2, 3, 4, 5, 6]);
  assert.deepEqual((await client.events({ cursor: "before-5" })).items, [1, 2, 3, 4]);
});

test("a list that never ends is given up", async () => {
  let pages = 0;
  const client = createClient({
    url: "http://any",
    fetch: async () => Response.json({ items: [], nextCursor: String(pages++), asOf: "t" }),
  });
  await assert.rejects(client.nodes(), /more than 10000 pages/);
  assert.equal(pages, 10_000);
});

test("a read is repeated twice after a cut connection or a 503, each page for itself; nothing else is", async () => {
  const answers = new Map<string, number>();
  await using api = await CannedApi.start(({ url, method }, response) => {
    const key = `${method} ${url}`;
    const asked = (answers.get(key) ?? 0) + 1;
    answers.set(key, asked);
    if (asked === 1) response.destroy();
    else if (asked === 2) sendJson(response, 503, problem(503, "redis_unavailable"), { "retry-after": "0" });
    else sendJson(response, 200, { items: [asked], nextCursor: url.includes("cursor") ? null : "b" });
  });
  const client = createClient({ url: api.url });
  assert.deepEqual((await client.nodes()).items, [3, 3]);
  assert.equal(api.asked.length, 6);
  await client.plan({ command: "node.ping", target: "n1" });
  assert.equal(api.asked.length, 9);
  api.answerWith((_, response) => {
    response.destroy();
  });
  await assert.rejects(client.command({ command: "node.ping", target: "n2" }), ApiUnreachable);
  await assert.rejects(client.cancelJob("j1"), ApiUnreachable);
  await assert.rejects(client.job("j1", { waitMs: 5 }), ApiUnreachable);
  assert.equal(api.asked.length, 9 + 3);
});
