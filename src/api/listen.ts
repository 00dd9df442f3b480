import type { AddressInfo } from "node:net";
import { createServer, type Server } from "node:http";
import { getRequestListener, RequestError as NotARequest } from "@hono/node-server";
import { ConfigError } from "../config.ts";
import { RequestError } from "../domain/errors.ts";
import type { Api } from "./deps.ts";
import { boundIdle } from "./idle-connections.ts";
import { problemResponse } from "./problem.ts";
import { answerUnparsed } from "./unparsed-request.ts";

/** Limits of connections: a client that does nothing must not hold one of them, or all. */
export const LIMITS = {
  /** Time to send the headers, after the connection is opened or used again. */
  headersMs: 10_000,
  /** Time to send the headers and the body: 4 MiB at 1.2 Mbit/s. */
  requestMs: 30_000,
  /** Longest time without traffic on a connection: more than the 60 s that a client may wait for an answer. */
  silentMs: 75_000,
  connections: 1000,
  /** Most idle connections among these. */
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

/** Resolves once it accepts requests. @throws ConfigError if the address is in use or does not belong to this machine. */
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
      // The listener checks it: Node would answer without an explanation.
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

/** A request with an unusable URL or Host. */
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

/** Accepts no more connections, waits at most `graceMs` for running answers, then closes the remaining connections. */
export async function closeServer(server: Server, graceMs: number): Promise<void> {
  const looks = setInterval(() => server.closeIdleConnections(), IDLE_LOOK_MS);
  const cut = setTimeout(() => server.closeAllConnections(), graceMs);
  try {
    await new Promise<void>((resolve) => {
      // The only possible error: the server was closed before.
      server.close(() => resolve());
    });
  } finally {
    clearInterval(looks);
    clearTimeout(cut);
  }
}
