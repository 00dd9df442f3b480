import type { Platform } from "./platform.ts";
import { type FetchApi, sharedApi } from "./shared-api.ts";

export type { FetchApi } from "./shared-api.ts";

const PLAIN: Platform = {
  masterId: "api-fetch",
  limits: null,
  howToSet: (setting) => `the setting ${setting} that createFetch was given`,
};

/**
 * The HTTP API for a runtime that speaks `fetch` and keeps TCP connections open between requests (Node, Bun, Deno). All requests share
 * their connections to Redis, which the first one opens. `crossstitch/fetch`.
 *
 * @param env the settings, as an environment; `REDIS_URL` and `STITCH_TOKEN` are required. A wrong setting answers every request with
 *   what to change.
 * @example
 * import { createFetch } from "crossstitch/fetch";
 * // Bun: it ends a silent request after 10 s, where a client may wait for 60 s and a stream is silent for 15 s.
 * export default { ...createFetch(process.env), idleTimeout: 90 };
 */
export function createFetch(env: Readonly<Record<string, unknown>>): FetchApi {
  return sharedApi(env, PLAIN);
}
