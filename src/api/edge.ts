import { RequestError } from "../domain/errors.ts";
import { loggable } from "../error-log.ts";
import { createApp } from "./app.ts";
import { closeBackend, type OpenBackend } from "./backend.ts";
import type { Api } from "./deps.ts";
import { connect, type Platform, readSettings } from "./platform.ts";
import { problemResponse } from "./problem.ts";

type Env = Readonly<Record<string, unknown>>;
type ExecutionContext = { waitUntil(work: Promise<unknown>): void };

const EDGE: Platform = {
  masterId: "api-edge",
  limits: null,
  howToSet: (setting) => `in wrangler.toml, or with wrangler secret put ${setting}`,
};

/** The API for an `env`, and how a request connects; or why there is none. */
type Served = { readonly api: Api; readonly connect: () => Promise<OpenBackend> } | RequestError;

/** How long a request's connection stays open for what goes on after its answer. A sweep repairs what is not done by then. */
const SETTLE_MS = 2000;

/** Has a request of this isolate found that Redis is fit to hold the cluster? Checked once, not with each request. */
let checked = false;
let latest: { readonly env: Env; readonly served: Served } | null = null;

/**
 * The API on an edge isolate (workerd with nodejs_compat). Each request has its own connection to Redis, because an isolate
 * may not use one request's connection for another request. Settings and secrets come from `env`; a token is required.
 */
export default {
  async fetch(request: Request, env: Env, context: ExecutionContext): Promise<Response> {
    if (latest?.env !== env) latest = { env, served: serve(env) };
    const { served } = latest;
    if (served instanceof RequestError) return problemResponse(served);
    let opening: Promise<OpenBackend> | null = null;
    let isOver = false;
    // Not before a route asks for it: a request without a token gets no connection either.
    const backend = () => {
      if (isOver) return Promise.reject(new Error("the request is over"));
      return (opening ??= served.connect());
    };
    const close = async (): Promise<void> => {
      isOver = true;
      const opened = await opening?.catch(ignoreFailed);
      if (opened != null) await closeBackend(opened, SETTLE_MS);
    };
    // A client that leaves while the API waits for something gets no answer whose end could close the connection.
    const onGone = () => context.waitUntil(close());
    request.signal.addEventListener("abort", onGone);
    const response = await Promise.resolve(served.api.fetch(request, { backend })).catch((error: unknown) => {
      context.waitUntil(close());
      throw error;
    });
    request.signal.removeEventListener("abort", onGone);
    if (response.body === null) {
      context.waitUntil(close());
      return response;
    }
    const through = new TransformStream<Uint8Array, Uint8Array>();
    // Ends when the body, or an event stream, has been sent or its reader is gone. The signal reports that (if
    // enable_request_signal is set, see wrangler.toml); otherwise the next write does, at the latest the next comment.
    const sent = response.body.pipeTo(through.writable, { signal: request.signal });
    context.waitUntil(sent.catch(ignoreFailed).then(close));
    return new Response(through.readable, response);
  },
};

/** A failed connection was already answered with an error, and a reader that is gone needs no answer. */
function ignoreFailed(): void {}

function serve(env: Env): Served {
  const settings = readSettings(env, EDGE);
  if (settings instanceof RequestError) return settings;
  const api = createApp({
    access: settings.access,
    limits: EDGE.limits,
    open: ({ backend }) => {
      if (backend === undefined) throw new Error("a request without a connection of its own");
      return backend();
    },
    nowMs: Date.now,
    onError: (error, requestId) => console.error(JSON.stringify({ requestId, error: loggable(error) })),
    shutdown: new AbortController().signal,
  });
  return {
    api,
    connect: async () => {
      const opened = await connect(settings.config, EDGE, !checked);
      checked = true;
      return opened;
    },
  };
}
