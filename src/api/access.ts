import type { MiddlewareHandler } from "hono";
import { bearerAuth } from "hono/bearer-auth";
import { RequestError } from "../domain/errors.ts";
import { sha256Hex } from "../domain/json/digest.ts";
import { isLoopback } from "./loopback.ts";
import type { Access, ApiContext, ApiEnv } from "./deps.ts";

/** Open for probes; these routes reveal nothing about the cluster. */
const OPEN = new Set(["/livez", "/readyz"]);

/**
 * Lets only permitted requests in. @throws HTTPException with `WWW-Authenticate` if the token is missing or wrong (compared
 * in constant time); RequestError `forbidden` if the API has no token and the request is not from this machine.
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
    // A web page of another origin must not control the local API. A page on another local port is another origin.
    const origin = c.req.header("origin");
    if (origin !== undefined && originHost(origin) !== host.toLowerCase())
      throw new RequestError("forbidden", "Requests from web pages of another origin are refused; set STITCH_TOKEN.");
    await next();
  };
}

/** The owner of the idempotency keys: a hash of the token, so that the token itself is stored nowhere. */
export async function scopeOf(c: ApiContext): Promise<string> {
  const token = /^bearer +(.+)$/i.exec(c.req.header("authorization") ?? "")?.[1];
  return token === undefined ? "" : sha256Hex(token);
}

/** The client, for limits per client: by its token; by its address if the API has no token, because then any token passes. */
export async function clientOf(c: ApiContext, { kind }: Access): Promise<string> {
  return kind === "token" ? scopeOf(c) : ((c.env as ApiEnv["Bindings"] | undefined)?.address ?? "");
}

const hostname = (host: string): string => (URL.canParse(`http://${host}`) ? new URL(`http://${host}`).hostname : "");
const originHost = (origin: string): string | null => (URL.canParse(origin) ? new URL(origin).host : null);
