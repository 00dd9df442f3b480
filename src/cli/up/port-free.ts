import { errorCode } from "../../error-text.ts";
import { freePort } from "../processes/local-redis.ts";
import { UsageError } from "../terminal/usage-error.ts";
import { portOwner } from "./port-owner.ts";

/**
 * The port for the API; for 0 a free one.
 * @throws UsageError where it cannot be had: who has it, and which setting changes it.
 */
export async function apiPort(host: string, port: number): Promise<number> {
  try {
    return await freePort(host, port);
  } catch (error) {
    const code = errorCode(error);
    if (code === "EADDRINUSE") {
      const owner = (await portOwner(port)) ?? "another program";
      throw new UsageError(
        `Port ${port} on ${host} is taken by ${owner}. Stop that, or set STITCH_PORT to another port, such as ${port + 1}`,
      );
    }
    if (code === "EACCES") throw new UsageError(`Port ${port} needs more rights. Set STITCH_PORT to one above 1023`);
    if (code === "EADDRNOTAVAIL" || code === "ENOTFOUND") {
      throw new UsageError(`STITCH_HOST: this machine has no address ${host}`);
    }
    throw error;
  }
}

/** Where clients on this machine reach what listens there: an address for all interfaces is none to connect to. */
export function localUrl(host: string, port: number): string {
  const reachable = host === "0.0.0.0" ? "127.0.0.1" : host === "::" ? "::1" : host;
  return `http://${reachable.includes(":") ? `[${reachable}]` : reachable}:${port}`;
}
