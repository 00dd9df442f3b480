import assert from "node:assert/strict";
import type { ServerResponse } from "node:http";
import { test } from "node:test";
import { ApiError, ApiUnreachable, createClient, NotTheApi } from "../../../src/client/client.ts";
import { CannedApi, problem, sendJson, sendPage } from "../cli/canned-api.ts";

const sse = (response: ServerResponse, text: string): void => {
  response.writeHead(200, { "content-type": "text/event-stream" }).write(`: hi\n\n${text}`);
};
const event = (id: string): string => `id: ${id}\nevent: x\ndata: {"id":"${id}"}\n\n`;

/** Reads `count` events within 10 s, and calls `onId` for each. */
async function take(
  api: CannedApi,
  count: number,
  { onId, ...options }: { since?: string; onGap?: () => void; onId?: (id: string) => void } = {},
): Promise<string[]> {
  const ids: string[] = [];
  const follow = createClient({ url: api.url }).followEvents({ ...options, signal: AbortSignal.timeout(10_000) });
  for await (const { id } of follow) {
    ids.push(id);
    onId?.(id);
    if (ids.length === count) break;
  }
  return ids;
}
const lastEventIds = (api: CannedApi) => api.asked.map(({ headers }) => headers["last-event-id"]);

test("after a lost connection, goes on after the last event seen", async () => {
  let cut = (): void => undefined;
  await using api = await CannedApi.start((_, response) => {
    if (api.asked.length === 1) {
      sse(response, event("1-0") + event("2-0"));
      cut = () => response.destroy();
    } else if (api.asked.length === 2) {
      sendJson(response, 503, problem(503, "shutting_down"));
    } else {
      sse(response, event("3-0"));
    }
  });
  const ids = await take(api, 3, { onId: (id) => id === "2-0" && cut() });
  assert.deepEqual(ids, ["1-0", "2-0", "3-0"]);
  assert.deepEqual(lastEventIds(api), [undefined, "2-0", "2-0"]);
});

test("goes on after a restart of the API behind a proxy; without a connection before, its page is an error", async () => {
  await using api = await CannedApi.start((_, response) => {
    if (api.asked.length === 1) {
      sse(response, event("1-0"));
      response.end();
    } else if (api.asked.length === 2) {
      sendPage(response, 502);
    } else if (api.asked.length === 3) {
      sendPage(response, 429);
    } else {
      sse(response, event("2-0"));
    }
  });
  assert.deepEqual(await take(api, 2), ["1-0", "2-0"]);
  assert.deepEqual(lastEventIds(api), [undefined, "1-0", "1-0", "1-0"]);
  api.answerWith((_, response) => sendPage(response, 502));
  await assert.rejects(take(api, 1), (error) => error instanceof NotTheApi && error.status === 502);
});

test("an answer that is no event stream, or has other events, is NotTheApi", async () => {
  await using api = await CannedApi.start((_, response) => sendPage(response, 200));
  await assert.rejects(take(api, 1), /text\/html instead of an event stream/);
  api.answerWith((_, response) => sse(response, "data: hello\n\n"));
  await assert.rejects(take(api, 1), (error) => error instanceof NotTheApi && error.status === null);
});

test("a reader that fell behind goes on where it was; if events are gone, reports a gap and goes on from now", async () => {
  let gaps = 0;
  await using api = await CannedApi.start((_, response) => {
    if (api.asked.length === 1) {
      sse(response, `${event("1-0")}event: gap\ndata: {}\n\n`);
      response.end();
    } else if (api.asked.length === 2) {
      sendJson(response, 410, problem(410, "events_gone"));
    } else {
      sse(response, event("9-0"));
    }
  });
  assert.deepEqual(await take(api, 2, { onGap: () => gaps++ }), ["1-0", "9-0"]);
  assert.deepEqual(lastEventIds(api), [undefined, "1-0", undefined]);
  assert.equal(gaps, 1);
});

test("sends its starting point until an event has come, and not again after a gap", async () => {
  let gaps = 0;
  await using api = await CannedApi.start((_, response) => {
    if (api.asked.length === 1) {
      sse(response, "");
      response.end();
    } else if (api.asked.length === 2) {
      sse(response, event("1-0"));
      response.end();
    } else if (api.asked.length === 3) {
      sendJson(response, 410, problem(410, "events_gone"));
    } else {
      sse(response, event("9-0"));
    }
  });
  const since = "2026-11-23T09:00:00.000Z";
  assert.deepEqual(await take(api, 2, { since, onGap: () => gaps++ }), ["1-0", "9-0"]);
  const begun = `/v1/events?since=${encodeURIComponent(since)}`;
  assert.deepEqual(
    api.asked.map(({ url }) => url),
    [begun, begun, begun, "/v1/events"],
  );
  assert.deepEqual(lastEventIds(api), [undefined, undefined, "1-0", undefined]);
  assert.equal(gaps, 1);
});

test("events_gone for the requested id, or no API at the start, is an error at once", async () => {
  await using api = await CannedApi.start((_, response) => sendJson(response, 410, problem(410, "events_gone")));
  await assert.rejects(
    take(api, 1, { since: "1-0" }),
    (error) => error instanceof ApiError && error.code === "events_gone",
  );
  assert.deepEqual([lastEventIds(api), api.asked[0]?.url], [[undefined], "/v1/events?since=1-0"]);
  await assert.rejects(createClient({ url: "http://127.0.0.1:9" }).followEvents().next(), ApiUnreachable);
});

test("gives up when there has been no API for the given time", async () => {
  let cut = (): void => undefined;
  await using api = await CannedApi.start((_, response) => {
    if (api.asked.length === 1) {
      sse(response, event("1-0"));
      cut = () => response.destroy();
    } else {
      response.destroy();
    }
  });
  const follow = createClient({ url: api.url }).followEvents({ giveUpAfterMs: 300 });
  assert.equal((await follow.next()).value?.id, "1-0");
  cut();
  await assert.rejects(follow.next(), ApiUnreachable);
});

test("an abort ends it with the reason, and a caller that stops closes the connection", {
  timeout: 20_000,
}, async () => {
  const closed = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
  await using api = await CannedApi.start((_, response) => {
    response.on("close", closed[api.asked.length - 1]?.resolve ?? assert.fail);
    sse(response, event("1-0"));
  });
  const stop = new AbortController();
  const follow = createClient({ url: api.url }).followEvents({ signal: stop.signal });
  await follow.next();
  stop.abort(new Error("enough"));
  await assert.rejects(follow.next(), /enough/);
  await closed[0]?.promise;
  for await (const { id } of createClient({ url: api.url }).followEvents()) {
    assert.equal(id, "1-0");
    break;
  }
  await closed[1]?.promise;
});

const line = (id: string | null, text: string): string => {
  const data = JSON.stringify({ at: "t", source: "stdout", line: text });
  return `${id === null ? "" : `id: ${id}\n`}event: line\ndata: ${data}\n\n`;
};

test("follows a log over a lost connection and an unreachable node until the stitch is gone", async () => {
  await using api = await CannedApi.start((_, response) => {
    if (api.asked.length === 1) {
      sse(response, line("n1:1.10", "one") + line("n1:1.20", "two") + line(null, "the node is leaving"));
      response.end();
    } else if (api.asked.length === 2) {
      sendJson(response, 504, problem(504, "node_unreachable"));
    } else if (api.asked.length === 3) {
      sse(response, line("n1:1.30", "three"));
      response.end();
    } else {
      sendJson(response, 404, problem(404, "not_found"));
    }
  });
  const lines: string[] = [];
  const follow = createClient({ url: api.url }).followLogs("n1:a", { tail: 7, signal: AbortSignal.timeout(10_000) });
  await assert.rejects(
    async () => {
      for await (const { line: text } of follow) lines.push(text);
    },
    (error) => error instanceof ApiError && error.code === "not_found",
  );
  assert.deepEqual(lines, ["one", "two", "the node is leaving", "three"]);
  assert.deepEqual(lastEventIds(api), [undefined, "n1:1.20", "n1:1.20", "n1:1.30"]);
  assert.equal(api.asked[0]?.url, "/v1/stitches/n1%3Aa/logs?tail=7");
});
