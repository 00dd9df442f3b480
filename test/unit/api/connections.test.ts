// Misuse of the API's connections, over real sockets: half a request, no request, no reading, too many at once.
import assert from "node:assert/strict";
import { once } from "node:events";
import { type ClientRequest, type IncomingMessage, request } from "node:http";
import { connect, type Socket } from "node:net";
import { describe, it, type TestContext } from "node:test";
import { createApp } from "../../../src/api/app.ts";
import type { Backend } from "../../../src/api/backend.ts";
import type { Answered, ApiDeps } from "../../../src/api/deps.ts";
import { closeServer, LIMITS, listen } from "../../../src/api/listen.ts";
import { pause } from "../../../src/bounded-wait.ts";
import type { ProblemResource } from "../../../src/contract/problem.ts";
import type { EventResource } from "../../../src/contract/event.ts";
import type { Master } from "../../../src/master/ports.ts";
import { until } from "../../support/cluster.ts";

const JOB = `j${"a".repeat(26)}`;
const TOKEN = "a-token-of-this-test";

/** An API on a free port. Its Master never answers a wait. It has no events unless `backend` gives a source. */
async function startTestApi(
  t: TestContext,
  limits: Partial<typeof LIMITS> = {},
  { backend = {}, ...differs }: Partial<ApiDeps> & { readonly backend?: Partial<Backend> } = {},
) {
  const shutdown = new AbortController();
  const errors: unknown[] = [];
  const answered: Answered[] = [];
  const never = () => new Promise<never>(() => undefined);
  const app = createApp({
    open: () => ({
      master: { commands: { job: never, submit: never }, routing: { send: never } } as unknown as Master,
      followEvents: (_after, signal) => Promise.resolve(silence(signal)),
      ping: () => Promise.resolve(),
      ...backend,
    }),
    limits: null,
    access: { kind: "loopback" },
    nowMs: () => performance.now(),
    onError: (error) => errors.push(error),
    onAnswer: (one) => answered.push(one),
    shutdown: shutdown.signal,
    ...differs,
  });
  t.mock.method(console, "error", (error: unknown) => errors.push(error));
  t.mock.method(console, "info", (line: unknown) => errors.push(line));
  const { server, url } = await listen(app, "127.0.0.1", 0, { ...LIMITS, ...limits });
  t.after(async () => {
    shutdown.abort();
    await closeServer(server, 0);
    assert.deepEqual(errors, []);
  });
  const connections = () =>
    new Promise<number>((resolve, reject) =>
      server.getConnections((error, count) => (error === null ? resolve(count) : reject(error))),
    );
  return { url, port: Number(new URL(url).port), answered, connections };
}

async function* silence(signal: AbortSignal): AsyncGenerator<readonly EventResource[]> {
  if (!signal.aborted) await once(signal, "abort");
  yield [];
}

/** Opens a connection and collects all that comes over it. */
async function open(port: number): Promise<{ socket: Socket; closed: Promise<unknown>; text: () => string }> {
  const socket = connect(port, "127.0.0.1");
  let text = "";
  socket.on("data", (bytes) => (text += bytes.toString()));
  socket.on("error", () => undefined);
  const closed = new Promise((resolve) => socket.once("close", resolve));
  await once(socket, "connect");
  return { socket, closed, text: () => text };
}

/** Checks that the received bytes are a complete problem document. */
function problemOf(text: string, status: number): ProblemResource {
  const [head = "", body = ""] = text.split("\r\n\r\n");
  assert.match(head, new RegExp(`^HTTP/1.1 ${status} `), text);
  assert.match(head, /^content-type: application\/problem\+json/im);
  const problem = JSON.parse(body) as ProblemResource;
  assert.equal(problem.status, status);
  assert.ok(problem.detail !== "" && problem.code !== undefined);
  assert.equal(/^x-request-id: (.+)\r?$/im.exec(head)?.[1]?.trim(), problem.requestId);
  return problem;
}

type Asked = { method?: string; from?: string; token?: string };

/** Sends a request and does not read the body of the answer. */
function ask(url: string, path: string, { method = "GET", from, token }: Asked = {}) {
  const sent: ClientRequest = request(url + path, {
    method,
    agent: false,
    ...(from === undefined ? {} : { localAddress: from }),
    headers: token === undefined ? {} : { authorization: `Bearer ${token}` },
  });
  sent.on("error", () => undefined);
  sent.end();
  const answer = once(sent, "response").then(([response]) => response as IncomingMessage);
  answer.catch(() => undefined);
  return { sent, answer };
}

async function statusOf(url: string, path: string, asked?: Asked): Promise<number | undefined> {
  const { sent, answer } = ask(url, path, asked);
  const { statusCode } = await answer;
  sent.destroy();
  return statusCode;
}

describe("a request that Node's HTTP parser refuses gets a problem document", () => {
  const longHeader = `X-Long: ${"x".repeat(20_000)}`;
  for (const { what, text, status, code } of [
    { what: "no HTTP", text: "hello\r\n\r\n", status: 400, code: "invalid_request" },
    { what: "no Host", text: "GET /livez HTTP/1.1\r\n\r\n", status: 400, code: "invalid_request" },
    {
      what: "a Host that is none",
      text: "GET /livez HTTP/1.1\r\nHost: a b\r\n\r\n",
      status: 400,
      code: "invalid_request",
    },
    { what: "CONNECT", text: "CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n", status: 405, code: "method_not_allowed" },
    {
      what: "headers that are too large",
      text: `GET /livez HTTP/1.1\r\nHost: localhost\r\n${longHeader}\r\n\r\n`,
      status: 431,
      code: "headers_too_large",
    },
    {
      what: "a chunk that is none",
      text: "POST /v1/commands HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
      status: 400,
      code: "invalid_request",
    },
  ])
    it(what, async (t) => {
      const { port } = await startTestApi(t);
      const { socket, text: came } = await open(port);
      socket.write(text);
      await until("it is answered", () => came().includes('"requestId"') && came().endsWith("}"));
      assert.equal(problemOf(came(), status).code, code);
      socket.destroy();
    });

  it("answers 408 to a request that does not arrive in full", async (t) => {
    const { port } = await startTestApi(t, { headersMs: 100, requestMs: 200 });
    const head = "POST /v1/commands HTTP/1.1\r\nHost: localhost\r\n";
    for (const text of ["", head, `${head}Content-Length: 10\r\n\r\n{`]) {
      const { socket, text: came, closed } = await open(port);
      socket.write(text);
      await closed;
      assert.equal(problemOf(came(), 408).code, "request_timeout");
    }
  });

  it("invalid bytes after an answer has begun close the connection and add no problem document to the answer", async (t) => {
    const { port } = await startTestApi(t);
    const { socket, text, closed } = await open(port);
    socket.write("GET /v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n");
    await until("the stream began", () => text().includes("still here"));
    socket.write("hello\r\n\r\n");
    await closed;
    assert.ok(!text().includes("problem+json"), text());
  });

  it("ignores an Expect header with an unknown value", async (t) => {
    const { port } = await startTestApi(t);
    const { socket, text } = await open(port);
    socket.write("GET /livez HTTP/1.1\r\nHost: localhost\r\nExpect: cake\r\n\r\n");
    await until("it is answered", () => text().startsWith("HTTP/1.1 200 "));
    socket.destroy();
  });
});

describe("a client that opens connections and sends nothing", () => {
  it("does not keep others out: the connection that has been idle for longest is closed", async (t) => {
    const { url, port, connections } = await startTestApi(t, {
      idleConnections: 5,
      headersMs: 60_000,
      requestMs: 60_000,
    });
    const { sent, answer } = ask(url, "/v1/events");
    await answer;
    const first = await open(port);
    const idle = await Promise.all(Array.from({ length: 20 }, () => open(port)));
    await until("the first is closed", () => first.socket.destroyed, 10_000);
    assert.equal(await statusOf(url, "/livez"), 200);
    await until("few are left", async () => (await connections()) <= 6);
    assert.equal(sent.destroyed, false, "who waits for something is not idle");
    sent.destroy();
    for (const { socket } of idle) socket.destroy();
  });

  it("does not get more connections than the limit", async (t) => {
    const { url, port, connections } = await startTestApi(t, { connections: 10 });
    const streams = Array.from({ length: 9 }, () => ask(url, "/v1/events"));
    await Promise.all(streams.map(({ answer }) => answer));
    const { socket } = await open(port);
    const over = await open(port);
    await over.closed;
    assert.equal(await connections(), 10);
    socket.destroy();
    for (const { sent } of streams) sent.destroy();
  });
});

describe("a stream whose client does not read", () => {
  it("is closed, and its source is released", async (t) => {
    let released = false;
    async function* flood(): AsyncGenerator<readonly EventResource[]> {
      try {
        for (let n = 1; ; n++) {
          yield [event(n)];
          await new Promise((resolve) => setImmediate(resolve));
        }
      } finally {
        released = true;
      }
    }
    const { url, connections } = await startTestApi(
      t,
      { silentMs: 500 },
      { backend: { followEvents: () => Promise.resolve(flood()) } },
    );
    const { sent, answer } = ask(url, "/v1/events");
    const response = await answer;
    response.pause();
    await until("it is closed", async () => released && (await connections()) === 0);
    sent.destroy();
  });
});

const event = (n: number): EventResource => ({
  id: `${n}-0`,
  type: "job.ended",
  at: new Date(n).toISOString(),
  node: null,
  stitch: null,
  group: null,
  job: null,
  data: { filler: "x".repeat(100_000) },
});

describe("a client's share", () => {
  for (const { what, path } of [
    { what: "streams", path: "/v1/events" },
    { what: "waits", path: `/v1/jobs/${JOB}?waitMs=60000` },
  ]) {
    it(`of ${what} is half of the places; another address gets the rest`, async (t) => {
      let taken = 0;
      const job = () => {
        taken += 1;
        return new Promise<never>(() => undefined);
      };
      const followEvents: Backend["followEvents"] = (_after, signal) => {
        taken += 1;
        return Promise.resolve(silence(signal));
      };
      const master = { commands: { job } } as unknown as Master;
      const { url } = await startTestApi(t, {}, { maxStreams: 4, maxWaits: 4, backend: { master, followEvents } });
      const held: ClientRequest[] = [];
      const hold = async (from: string) => {
        const already = taken;
        held.push(ask(url, path, { from }).sent);
        await until("a place is taken", () => taken > already);
      };
      await hold("127.0.0.2");
      await hold("127.0.0.2");
      assert.equal(await statusOf(url, path, { from: "127.0.0.2" }), 429);
      await hold("127.0.0.3");
      await hold("127.0.0.3");
      assert.equal(await statusOf(url, path, { from: "127.0.0.4" }), 429);
      if (what === "streams") {
        held[0]?.destroy();
        await until("one is free", async () => (await statusOf(url, path, { from: "127.0.0.4" })) === 200);
      }
      for (const sent of held) sent.destroy();
    });
  }

  it("counts per token, whatever address the request comes from", async (t) => {
    const { url } = await startTestApi(t, {}, { maxStreams: 2, access: { kind: "token", token: TOKEN } });
    const { sent, answer } = ask(url, "/v1/events", { from: "127.0.0.2", token: TOKEN });
    assert.equal((await answer).statusCode, 200);
    assert.equal(await statusOf(url, "/v1/events", { from: "127.0.0.3", token: TOKEN }), 429);
    sent.destroy();
  });

  it("does not grow with a token that the API does not require", async (t) => {
    const { url } = await startTestApi(t, {}, { maxStreams: 2 });
    const { sent, answer } = ask(url, "/v1/events", { token: "one" });
    assert.equal((await answer).statusCode, 200);
    assert.equal(await statusOf(url, "/v1/events", { token: "another" }), 429);
    sent.destroy();
  });

  it("also limits the waits of commands and messages; a refused one changes nothing", async (t) => {
    const { url } = await startTestApi(t, {}, { maxWaits: 0 });
    const post = async (path: string, body: unknown) => {
      const headers = { "content-type": "application/json" };
      const response = await fetch(url + path, { method: "POST", headers, body: JSON.stringify(body) });
      return (await response.json()) as ProblemResource;
    };
    const message = { to: { stitch: "a" }, data: 1, expect: "ack" };
    assert.equal((await post("/v1/messages", message)).code, "rate_limited");
    assert.equal((await post("/v1/commands?waitMs=1", { command: "node.ping", target: "n1" })).code, "rate_limited");
  });
});

describe("a request body that breaks off", () => {
  for (const { what, head } of [
    { what: "of a known length", head: "Content-Length: 100000" },
    { what: "in chunks", head: "Transfer-Encoding: chunked" },
  ])
    it(`causes no API error and no log line (${what})`, async (t) => {
      const { port, answered } = await startTestApi(t);
      const { socket } = await open(port);
      socket.write(
        `POST /v1/commands HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n${head}\r\n\r\n`,
      );
      socket.write('5\r\n{"a":');
      // When the server answers another request, it has begun to read this body.
      const other = await open(port);
      other.socket.write("GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
      await other.closed;
      socket.destroy();
      await until("it is given up", () => answered.some(({ route, status }) => route !== "/livez" && status === 400));
    });
});

it("a connection outlives a body that is too large, even if the client sends the body slowly", async (t) => {
  const { port } = await startTestApi(t);
  const { socket, text } = await open(port);
  const half = "x".repeat(150 * 1024);
  socket.write(
    `POST /v1/commands HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: ${2 * half.length}\r\n\r\n${half}`,
  );
  // Longer than the server would read the rest of a body after its answer.
  await pause(700);
  socket.write(half);
  await until("the body is refused", () => text().startsWith("HTTP/1.1 413 "));
  socket.write("GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n");
  await until("the next request is answered", () => /HTTP\/1\.1 200 /.test(text()));
  socket.destroy();
});
