import type { AddressInfo } from "node:net";
import type { Server } from "node:http";
import { createAdaptorServer } from "@hono/node-server";
import { ConfigError } from "../config.ts";
import type { Api } from "./deps.ts";

/** A request, its body included, must have come in by then: a client that sends a byte a minute must not hold a socket. */
const REQUEST_MS = 60_000;
/** How often a closing server looks for connections that have become idle. */
const IDLE_LOOK_MS = 50;

export type Listening = {
  readonly server: Server;
  /** `http://127.0.0.1:8787` */
  readonly url: string;
};

/** Resolves once requests are taken. @throws ConfigError where the address is taken or is not this machine's. */
export async function listen(app: Api, host: string, port: number): Promise<Listening> {
  const server = createAdaptorServer({
    fetch: app.fetch,
    serverOptions: { requestTimeout: REQUEST_MS },
  }) as Server;
  await new Promise<void>((resolve, reject) => {
    server.once("error", (error: NodeJS.ErrnoException) => reject(refusal(error, host, port)));
    server.listen(port, host, resolve);
  });
  server.removeAllListeners("error");
  const address = server.address() as AddressInfo;
  return { server, url: `http://${host.includes(":") ? `[${host}]` : host}:${address.port}` };
}

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
