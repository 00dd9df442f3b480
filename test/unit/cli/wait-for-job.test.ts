import assert from "node:assert/strict";
import { test } from "node:test";
import { waitForJob } from "../../../src/cli/follow/wait-for-job.ts";
import { ApiError, createClient } from "../../../src/client/client.ts";
import { CannedApi, job, problem, sendJson } from "./canned-api.ts";

const waiting = (api: CannedApi, over: { timeoutMs?: number; signal?: AbortSignal } = {}) => ({
  client: createClient({ url: api.url }),
  timeoutMs: 10_000,
  stepMs: 30_000,
  signal: new AbortController().signal,
  onLook: () => undefined,
  ...over,
});

test("a job that has ended causes no request", async () => {
  await using api = await CannedApi.start((_, response) => sendJson(response, 500, problem(500, "internal")));
  assert.equal((await waitForJob(job("succeeded"), waiting(api))).status, "succeeded");
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
  const ended = await waitForJob(job("pending"), { ...waiting(api), onLook: ({ status }) => looks.push(status) });
  assert.equal(ended.status, "succeeded");
  assert.deepEqual(looks, ["pending", "running", "running", "running", "succeeded"]);
  for (const { url } of api.asked) {
    const waitMs = Number(new URL(url, api.url).searchParams.get("waitMs"));
    assert.ok(waitMs > 0 && waitMs <= 10_000, url);
  }
});

test("returns the job as it is when the time is up, and never asks in a tight loop", async () => {
  await using api = await CannedApi.start((_, response) => sendJson(response, 202, job("running")));
  const latest = await waitForJob(job("pending"), waiting(api, { timeoutMs: 600 }));
  assert.equal(latest.finishedAt, null);
  assert.ok(api.asked.length <= 4, `${api.asked.length} requests in 600 ms`);
});

test("any other error ends the wait", async () => {
  await using api = await CannedApi.start((_, response) => sendJson(response, 404, problem(404, "not_found")));
  await assert.rejects(
    waitForJob(job("pending"), waiting(api)),
    (error) => error instanceof ApiError && error.code === "not_found",
  );
});

test("an abort ends the wait with its reason, even during a request", async () => {
  const stop = new AbortController();
  await using api = await CannedApi.start(() => stop.abort(new Error("enough")));
  await assert.rejects(waitForJob(job("pending"), waiting(api, { signal: stop.signal })), /enough/);
});
