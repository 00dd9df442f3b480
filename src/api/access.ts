import type { MiddlewareHandler } from "hono";
import { bearerAuth } from "hono/bearer-auth";
import { RequestError } from "../domain/errors.ts";
import { sha256Hex } from "../master/digest.ts";
import { isLoopback } from "./loopback.ts";
import type { Access, ApiContext, ApiEnv } from "./deps.ts";

/** Probes ask these, and they tell nothing of the cluster. */
const OPEN = new Set(["/livez", "/readyz"]);

/**
 * Lets in who may ask. @throws HTTPException with `WWW-Authenticate` where the token is missing or wrong (compared in
 * constant time); RequestError `forbidden` where there is no token and the request is not this machine's own.
 */
export function access(allowed: Access): MiddlewareHandler<ApiEnv> {
  if (allowed.kind === "token") {
    const bearer: MiddlewareHandler = bearerAuth({ token: allowed.token, realm: "crossstitch" });
    return (c, next) => (OPEN.has(c.req.path) ? next() : bearer(c, next));
  }
  return async (c, next) => {
    const host = c.req.header("host") ?? new URL(c.req.url).host;
    if (!isLoopback(hostname(host)))
      throw new RequestError(
        "forbidden",
        "This API has no token, so it answers this machine only: use http://localhost or 127.0.0.1, or set STITCH_TOKEN.",
      );
    // A page of another origin must not command the local API, and a page on another local port is another origin.
    const origin = c.req.header("origin");
    if (origin !== undefined && originHost(origin) !== host.toLowerCase())
      throw new RequestError("forbidden", "Requests from web pages of another origin are refused; set STITCH_TOKEN.");
    await next();
  };
}

/** Whose idempotency keys these are: a hash of the token, so that the token itself is kept nowhere. */
export async function scopeOf(c: ApiContext): Promise<string> {
  const token = /^bearer +(.+)$/i.exec(c.req.header("authorization") ?? "")?.[1];
  return token === undefined ? "" : sha256Hex(token);
}

/** Who asks, where places are shared: the token, or without one, where anything may be sent as one, the address. */
export async function clientOf(c: ApiContext, { kind }: Access): Promise<string> {
  return kind === "token" ? scopeOf(c) : ((c.env as ApiEnv["Bindings"] | undefined)?.address ?? "");
}

const hostname = (host: string): string => (URL.canParse(`http://${host}`) ? new URL(`http://${host}`).hostname : "");
const originHost = (origin: string): string | null => (URL.canParse(origin) ? new URL(origin).host : null);
