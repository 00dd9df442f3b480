// Instead of the certificates of Redis Cloud that ioredis carries for connections that ask for them by name: src/redis-url.ts gives
// no such name, and public certificates are checked as usual.
import { leftOut } from "./left-out.ts";

/** By name. ioredis also looks up the name `undefined`, for a connection that gives none. */
export default new Proxy<Record<string, never>>(
  {},
  { get: (_, name) => (name === "undefined" ? undefined : leftOut(`ioredis's TLS profile ${String(name)}`)) },
);
