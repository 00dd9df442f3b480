import { RequestError } from "../domain/errors.ts";
import { loggable } from "../error-log.ts";
import { createApp } from "./app.ts";
import { connect, type Platform, readSettings } from "./platform.ts";
import { problemResponse } from "./problem.ts";
import { SharedBackend } from "./shared-backend.ts";

const PLAIN: Platform = {
  masterId: "api-fetch",
  limits: null,
  howToSet: (setting) => `the setting ${setting} that createFetch was given`,
};

/** The HTTP API as a function from requests to answers. */
export type FetchApi = {
  /** Answers a request. Never rejects: what goes wrong is a problem document. */
  readonly fetch: (request: Request) => Promise<Response>;
  /** Resolves when nothing that was begun for a request goes on after its answer, at the latest after `limitMs`. */
  readonly settled: (limitMs: number) => Promise<void>;
  /** Ends streams, refuses new requests and closes the connections to Redis. Safe to repeat. */
  readonly close: () => Promise<void>;
};

/**
 * The HTTP API for a runtime that speaks `fetch` and keeps TCP connections open between requests (Node, Bun, Deno, and functions on
 * Node). All requests share one connection to Redis, which is opened by the first one. `crossstitch/fetch`.
 *
 * @param env the settings, as an environment; `REDIS_URL` and `STITCH_TOKEN` are required. A wrong setting answers every request with
 *   what to change.
 * @example
 * import { createFetch } from "crossstitch/fetch";
 * export default createFetch(process.env); // Bun and Deno serve what has `fetch`
 */
export function createFetch(env: Readonly<Record<string, unknown>>, platform: Platform = PLAIN): FetchApi {
  const settings = readSettings(env, platform);
  if (settings instanceof RequestError)
    return {
      fetch: () => Promise.resolve(problemResponse(settings)),
      settled: () => Promise.resolve(),
      close: () => Promise.resolve(),
    };
  let checked = false;
  const shared = new SharedBackend(async () => {
    const opened = await connect(settings.config, platform, !checked);
    checked = true;
    return opened;
  }, Date.now);
  const shutdown = new AbortController();
  const app = createApp({
    access: settings.access,
    limits: platform.limits,
    open: () => shared.open(),
    nowMs: () => performance.now(),
    onError: (error, requestId) => console.error(JSON.stringify({ requestId, error: loggable(error) })),
    shutdown: shutdown.signal,
  });
  return {
    fetch: async (request) => app.fetch(request, {}),
    settled: (limitMs) => shared.settled(limitMs),
    close: async () => {
      shutdown.abort();
      await shared.close();
    },
  };
}
