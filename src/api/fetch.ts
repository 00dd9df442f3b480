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
  /** Ends streams, refuses new requests and closes the connections to Redis. Safe to repeat. */
  readonly close: () => Promise<void>;
  /**
   * Resolves when the work is done that goes on after answers, such as the event that a job has ended. For a platform that stops the
   * process between requests; a sweep repairs what is lost.
   */
  readonly settled: () => Promise<void>;
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
      close: () => Promise.resolve(),
      settled: () => Promise.resolve(),
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
    onError: (error, requestId) => {
      shared.doubt();
      console.error(JSON.stringify({ requestId, error: loggable(error) }));
    },
    shutdown: shutdown.signal,
  });
  return {
    fetch: async (request) => app.fetch(request, {}),
    close: async () => {
      shutdown.abort();
      await shared.close();
    },
    settled: () => shared.settled(),
  };
}
