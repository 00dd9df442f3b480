import assert from "node:assert/strict";
import { test } from "node:test";
import { ApiError, ApiUnreachable, createClient, NotTheApi } from "../../../src/client/client.ts";
import { CannedApi, job, problem, sendJson, sendPage } from "../cli/canned-api.ts";

const on = (api: CannedApi) => createClient({ url: api.url });
const waitMsOf = ({ url }: { readonly url: string }) =>
  Number(new URL(url, "http://any").searchParams.get("waitMs") ?? Number.NaN);

test("a job that has ended causes no request", async () => {
  await using api = await CannedApi.start((_, response) => sendJson(response, 500, problem(500, "internal")));
  assert.equal((await on(api).waitForJob(job("succeeded"), { timeoutMs: 10_000 })).status, "succeeded");
  assert.equal(api.asked.length, 0);
});

test("asks with waitMs until the job ends, retries after a 503 and a cut connection, and shows each look", async () => {
  await using api = await CannedApi.start((_, response) => {
    if (api.asked.length === 1) sendJson(response, 202, job("running"));
    else if (api.asked.length === 2) sendJson(response, 503, problem(503, "redis_unavailable"));
    else if (api.asked.length === 3) response.destroy();
    else sendJson(response, 200, job("succeeded"));
  });
  const looks: string[] = [];
  const ended = await on(api).waitForJob(job("pending"), {
    timeoutMs: 10_000,
    onLook: ({ status }) => looks.push(status),
  });
  assert.equal(ended.status, "succeeded");
  assert.deepEqual(looks, ["pending", "running", "running", "running", "succeeded"]);
  for (const waitMs of api.asked.map(waitMsOf)) assert.ok(waitMs > 0 && waitMs <= 10_000, String(waitMs));
});

test("returns the job as it is when the time is up, and never asks in a tight loop", async () => {
  await using api = await CannedApi.start((_, response) => sendJson(response, 202, job("running")));
  const latest = await on(api).waitForJob(job("pending"), { timeoutMs: 600 });
  assert.equal(latest.finishedAt, null);
  assert.ok(api.asked.length <= 4, `${api.asked.length} requests in 600 ms`);
});

test("any other error ends the wait", async () => {
  await using api = await CannedApi.start((_, response) => sendJson(response, 404, problem(404, "not_found")));
  await assert.rejects(
    on(api).waitForJob(job("pending"), { timeoutMs: 10_000 }),
    (error) => error instanceof ApiError && error.code === "not_found",
  );
});

test("an abort ends the wait with its reason, even during a request", async () => {
  const stop = new AbortController();
  await using api = await CannedApi.start(() => stop.abort(new Error("enough")));
  await assert.rejects(on(api).waitForJob(job("pending"), { timeoutMs: 10_000, signal: stop.signal }), /enough/);
});

test("no request waits longer than 25 s, which is what gateways bear; stepMs makes it shorter", async () => {
  await using api = await CannedApi.start((_, response) => sendJson(response, 200, job("succeeded")));
  for (const stepMs of [undefined, 60_000, 1000])
    await on(api).waitForJob(job("pending"), { timeoutMs: 3_600_000, stepMs });
  assert.deepEqual(api.asked.map(waitMsOf), [25_000, 25_000, 1000]);
});

test("a job may be given by its id: it is read at least once", async () => {
  await using api = await CannedApi.start((_, response) => sendJson(response, 202, job("running")));
  const looks: string[] = [];
  const onLook = ({ status }: { readonly status: string }) => looks.push(status);
  const latest = await on(api).waitForJob("j1", { timeoutMs: 0, onLook });
  assert.equal(latest.status, "running");
  assert.deepEqual(looks, ["running"]);
  assert.deepEqual(
    api.asked.map(({ url }) => url),
    ["/v1/jobs/j1?waitMs=0"],
  );
});

test("the wait survives a restart of the API: the request that it cuts off, and the time without one", async () => {
  const first = await CannedApi.start(async (_, response) => {
    response.destroy();
    await first[Symbol.asyncDispose]();
  });
  const port = Number(new URL(first.url).port);
  let looks = 0;
  let second: Promise<CannedApi> | undefined;
  const ended = await on(first).waitForJob(job("running"), {
    timeoutMs: 20_000,
    onLook: () => {
      // The first look is before the first request; the third one is after a request that was refused.
      looks += 1;
      if (looks === 3) second = CannedApi.start((_, response) => sendJson(response, 200, job("succeeded")), port);
    },
  });
  await using api = await (second ?? assert.fail());
  assert.equal(ended.status, "succeeded");
  assert.equal(api.asked.length, 1);
});

test("an id of which nothing is known when the time is up is an error", async () => {
  const gone = await CannedApi.start(() => undefined);
  await gone[Symbol.asyncDispose]();
  await assert.rejects(on(gone).waitForJob("j1", { timeoutMs: 0 }), ApiUnreachable);
});

test("the wait survives an API that restarts behind a proxy, but no other page", async () => {
  const statuses = [502, 503, 504, 520];
  await using api = await CannedApi.start((_, response) => {
    const status = statuses[api.asked.length - 1];
    if (status === undefined) sendJson(response, 200, job("succeeded"));
    else sendPage(response, status);
  });
  assert.equal((await on(api).waitForJob("j1", { timeoutMs: 20_000 })).status, "succeeded");
  assert.equal(api.asked.length, statuses.length + 1);
  api.answerWith((_, response) => sendPage(response, 500));
  await assert.rejects(
    on(api).waitForJob(job("running"), { timeoutMs: 20_000 }),
    (error) => error instanceof NotTheApi && error.status === 500,
  );
});

test("while there are too many requests, the wait goes on at the pace that the API asks for", async () => {
  const askedAtMs: number[] = [];
  await using api = await CannedApi.start((_, response) => {
    askedAtMs.push(performance.now());
    if (api.asked.length === 1) sendJson(response, 429, problem(429, "rate_limited"), { "retry-after": "1" });
    else if (api.asked.length === 2) sendJson(response, 429, problem(429, "rate_limited"), { "retry-after": "0" });
    else if (api.asked.length === 3) sendPage(response, 429);
    else sendJson(response, 200, job("succeeded"));
  });
  assert.equal((await on(api).waitForJob("j1", { timeoutMs: 20_000 })).status, "succeeded");
  const pausesMs = askedAtMs.slice(1).map((atMs, at) => atMs - (askedAtMs[at] ?? Number.NaN));
  for (const [at, leastMs] of [990, 240, 240].entries())
    assert.ok((pausesMs[at] ?? 0) >= leastMs, `pauses of ${pausesMs.join(", ")} ms`);
});

test("with too many requests to the end, it returns the job as last seen; an error if nothing is known of it", async () => {
  await using api = await CannedApi.start((_, response) =>
    sendJson(response, 429, problem(429, "rate_limited"), { "retry-after": "60" }),
  );
  assert.equal((await on(api).waitForJob(job("running"), { timeoutMs: 300 })).status, "running");
  await assert.rejects(
    on(api).waitForJob("j1", { timeoutMs: 300 }),
    (error) => error instanceof ApiError && error.status === 429,
  );
});

test("an API that is away is given up after 30 s; one that has too many requests is not", async (t) => {
  let nowMs = 0;
  t.mock.method(performance, "now", () => nowMs);
  const looks = { timeoutMs: 3_600_000, onLook: () => void (nowMs += 20_000) };
  await using api = await CannedApi.start((_, response) => sendPage(response, 502));
  await assert.rejects(on(api).waitForJob(job("running"), looks), NotTheApi);
  // The look before each of two requests was 20 s after the last one.
  assert.equal(api.asked.length, 3);
  api.answerWith((_, response) => {
    if (api.asked.length < 3 + 4) sendJson(response, 429, problem(429, "rate_limited"), { "retry-after": "0" });
    else sendJson(response, 200, job("succeeded"));
  });
  assert.equal((await on(api).waitForJob(job("running"), looks)).status, "succeeded");
});
