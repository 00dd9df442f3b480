import type { AddressInfo } from "node:net";
import { createServer, type Server } from "node:http";
import { getRequestListener, RequestError as NotARequest } from "@hono/node-server";
import { ConfigError } from "../config.ts";
import { RequestError } from "../domain/errors.ts";
import type { Api } from "./deps.ts";
import { boundIdle } from "./idle-connections.ts";
import { problemResponse } from "./problem.ts";
import { answerUnparsed } from "./unparsed.ts";

/** What connections may do: a client must not hold one, or all, by doing nothing. */
export const LIMITS = {
  /** A connection that is opened, or used again, has sent its headers by then. */
  headersMs: 10_000,
  /** So has the body: 4 MiB at 1.2 Mbit/s. */
  requestMs: 30_000,
  /** On a connection nothing is sent and nothing read for so long: more than the 60 s that an answer may be waited for. */
  silentMs: 75_000,
  connections: 1000,
  /** Of these, such as ask nothing. */
  idleConnections: 500,
};
/** How often Node looks for requests that are late. */
const LATE_LOOK_MS = 1000;
/** How often a closing server looks for connections that have become idle. */
const IDLE_LOOK_MS = 50;

type Listening = {
  readonly server: Server;
  /** `http://127.0.0.1:8787` */
  readonly url: string;
};

/** Resolves once requests are taken. @throws ConfigError where the address is taken or is not this machine's. */
export async function listen(app: Api, host: string, port: number, limits = LIMITS): Promise<Listening> {
  const answer = getRequestListener(
    (request, { incoming }) => app.fetch(request, { address: incoming.socket.remoteAddress }),
    { errorHandler: (error) => problemResponse(error instanceof NotARequest ? notTaken(error) : error) },
  );
  const server = createServer(
    {
      headersTimeout: limits.headersMs,
      requestTimeout: limits.requestMs,
      connectionsCheckingInterval: Math.min(LATE_LOOK_MS, limits.headersMs),
      // Checked by the listener: Node would answer without a word.
      requireHostHeader: false,
    },
    (request, response) => void answer(request, response),
  );
  server.timeout = limits.silentMs;
  server.maxConnections = limits.connections;
  boundIdle(server, limits.idleConnections);
  answerUnparsed(server);
  await new Promise<void>((resolve, reject) => {
    server.once("error", (error: NodeJS.ErrnoException) => reject(refusal(error, host, port)));
    server.listen(port, host, resolve);
  });
  server.removeAllListeners("error");
  const address = server.address() as AddressInfo;
  return { server, url: `http://${host.includes(":") ? `[${host}]` : host}:${address.port}` };
}

/** A request whose URL or Host is no use. */
const notTaken = ({ message }: NotARequest) => new RequestError("invalid_request", `${message}.`);

function refusal(error: NodeJS.ErrnoException, host: string, port: number): Error {
  if (error.code === "EADDRINUSE")
    return new ConfigError(`STITCH_PORT: something listens on ${host}:${port} already; set another port, or stop it`);
  if (error.code === "EACCES")
    return new ConfigError(`STITCH_PORT: this user may not listen on port ${port}; set another`);
  if (error.code === "EADDRNOTAVAIL" || error.code === "ENOTFOUND")
    return new ConfigError(`STITCH_HOST: ${host} is not an address of this machine`);
  return error;
}

/** Takes no more connections, waits at most `graceMs` for answers under way, then cuts what is left. */
export async function closeServer(server: Server, graceMs: number): Promise<void> {
  const looks = setInterval(() => server.closeIdleConnections(), IDLE_LOOK_MS);
  const cut = setTimeout(() => server.closeAllConnections(), graceMs);
  try {
    await new Promise<void>((resolve) => {
      // Its only error is that it was closed before.
      server.close(() => resolve());
    });
  } finally {
    clearInterval(looks);
    clearTimeout(cut);
  }
}
