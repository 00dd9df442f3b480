import assert from "node:assert/strict";
import { createServer as createHttp, type RequestListener } from "node:http";
import { type AddressInfo, createServer, type Server, type Socket } from "node:net";
import { once } from "node:events";
import { type TestContext, test } from "node:test";
import { httpProbe } from "../../../workers/node/adaptors/http-probe.ts";
import { findingOf, type Finding } from "../../../workers/node/adaptors/probe.ts";
import { tcpProbe } from "../../../workers/node/adaptors/tcp-probe.ts";
import { quietPort } from "../../support/quiet-port.ts";

const WELL: Finding = { kind: "well" };
const failed = (reason: string): Finding => ({ kind: "failed", reason });
const never = () => new AbortController().signal;

async function listening(t: TestContext, server: Server): Promise<number> {
  const sockets = new Set<Socket>();
  server.on("connection", (socket: Socket) => sockets.add(socket));
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return (server.address() as AddressInfo).port;
}
const http = (t: TestContext, listener: RequestListener) => listening(t, createHttp(listener));
/** A server that says this to each connection, and nothing more. */
const raw = (t: TestContext, said: string) =>
  listening(
    t,
    createServer((socket) => {
      socket.on("error", () => undefined);
      socket.write(said);
    }),
  );

test("a status from 200 to 399 is well, or only the expected one; no redirect is followed", async (t) => {
  const asked: string[] = [];
  const port = await http(t, (request, response) => {
    asked.push(request.url ?? "");
    response.writeHead(Number(request.url?.slice(1)), { location: "/500" }).end("a body");
  });
  const look = (status: number, expect?: number) =>
    httpProbe({ port, path: `/${status}`, ...(expect === undefined ? {} : { expect }) })(never());
  for (const status of [200, 204, 302, 399]) assert.deepEqual(await look(status), WELL);
  for (const status of [400, 404, 500, 599]) assert.deepEqual(await look(status), failed(`answered ${status}`));
  assert.deepEqual(await look(500, 500), WELL);
  assert.deepEqual(await look(200, 204), failed("answered 200 instead of 204"));
  assert.deepEqual(asked, ["/200", "/204", "/302", "/399", "/400", "/404", "/500", "/599", "/500", "/200"]);
});

test("a request names the host and port, asks for the whole path, and asks to close the connection", async (t) => {
  let seen: unknown = null;
  const port = await http(t, ({ method, url, headers }, response) => {
    seen = { method, url, host: headers.host, connection: headers.connection };
    response.end();
  });
  assert.deepEqual(await httpProbe({ port, path: "/a?b=%20c" })(never()), WELL);
  assert.deepEqual(seen, { method: "GET", url: "/a?b=%20c", host: `127.0.0.1:${port}`, connection: "close" });
});

test("of a body without end only a little is read, and the status decides", async (t) => {
  let sentBytes = 0;
  const closed = Promise.withResolvers<void>();
  const port = await http(t, (_request, response) => {
    const piece = Buffer.alloc(64 * 1024);
    const write = () => {
      while (!response.destroyed && response.write(piece)) sentBytes += piece.length;
    };
    response.on("drain", write);
    response.on("close", closed.resolve);
    write();
  });
  assert.deepEqual(await httpProbe({ port, path: "/" })(never()), WELL);
  await closed.promise;
  // What the system had taken into its buffers is not much.
  assert.ok(sentBytes < 64 * 1024 * 1024, `${sentBytes} bytes`);
});

for (const [what, said, reason] of [
  ["speaks no HTTP", "hello\r\n\r\n", /^Parse Error/],
  ["sends a header without end", `HTTP/1.1 200 OK\r\nx: ${"x".repeat(100_000)}`, /^Parse Error: Header overflow/],
] as const)
  test(`a server that ${what} is not well`, async (t) => {
    const finding = await httpProbe({ port: await raw(t, said), path: "/" })(never());
    assert.equal(finding.kind, "failed");
    assert.match(finding.kind === "failed" ? finding.reason : "", reason);
  });

test("a server that switches the protocol has answered with 101", async (t) => {
  const port = await raw(t, "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n");
  assert.deepEqual(await httpProbe({ port, path: "/" })(never()), failed("answered 101"));
  assert.deepEqual(await httpProbe({ port, path: "/", expect: 101 })(never()), WELL);
});

test("where nobody listens, the reason is the system's", async () => {
  const port = await quietPort();
  assert.deepEqual(await httpProbe({ port, path: "/" })(never()), failed("connect ECONNREFUSED"));
  assert.deepEqual(await tcpProbe(port)(never()), failed("connect ECONNREFUSED"));
});

test("what the machine lacks is no failure of the program", () => {
  for (const code of ["EMFILE", "EAGAIN", "ENOMEM"])
    assert.deepEqual(findingOf(Object.assign(new Error(`no ${code}`), { code })), {
      kind: "not made",
      reason: `no ${code}`,
    });
  assert.deepEqual(findingOf(Object.assign(new Error("no ENOENT"), { code: "ENOENT" })), failed("no ENOENT"));
});

test("a port that accepts is well for tcp, and silent for http: that look is given up and closes its connection", async (t) => {
  const closed: Promise<unknown>[] = [];
  const server = createServer((socket) => {
    socket.on("error", () => undefined).resume();
    closed.push(once(socket, "close"));
  });
  const port = await listening(t, server);
  assert.deepEqual(await tcpProbe(port)(never()), WELL);
  const giveUp = new AbortController();
  const looking = httpProbe({ port, path: "/" })(giveUp.signal);
  await once(server, "connection");
  giveUp.abort();
  assert.deepEqual(await looking, { kind: "given up", said: "" });
  assert.ok(closed.length > 0);
  await Promise.all(closed);
  assert.deepEqual(await httpProbe({ port, path: "/" })(giveUp.signal), { kind: "given up", said: "" });
  assert.deepEqual(await tcpProbe(port)(giveUp.signal), { kind: "given up", said: "" });
});
