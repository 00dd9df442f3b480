import { RequestError } from "../domain/errors.ts";
import { loggable } from "../error-log.ts";
import { createApp } from "./app.ts";
import { connect, type Platform, readSettings } from "./platform.ts";
import { problemResponse } from "./problem.ts";
import { SharedBackend } from "./shared-backend.ts";

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

/** The API of a process whose requests share their connections: opened by the first request, and closed by `close`. */
export function sharedApi(env: Readonly<Record<string, unknown>>, platform: Platform): FetchApi {
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
