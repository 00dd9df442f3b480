import { type Config, ConfigError, loadConfig } from "../config.ts";
import { RequestError } from "../domain/errors.ts";
import type { Master } from "../master/ports.ts";
import { type OpenMaster, openMaster } from "../master/open-master.ts";
import { RedisRefused } from "../redis/connection/connection.ts";
import { writeFormat } from "../redis/format.ts";
import { createApp } from "./app.ts";
import { loggable } from "../error-log.ts";
import { eventFollower } from "./follow-events.ts";
import { problemResponse } from "./problem.ts";
import { checkToken } from "./token.ts";

/** Less than the deadline of an answer (3 s), so that there is time left to answer. */
const CONNECT_MS = 2000;

type Env = Readonly<Record<string, unknown>>;
/** The Master's id in the jobs that it accepts. */
const MASTER_ID = "api-edge";

type ExecutionContext = { waitUntil(work: Promise<unknown>): void };

/**
 * The API on an edge isolate (workerd with nodejs_compat). Each request has its own connection to Redis, because an isolate
 * may not use one request's connection for another request. Settings and secrets come from `env`; a token is required.
 */
export default {
  async fetch(request: Request, env: Env, context: ExecutionContext): Promise<Response> {
    const settings = readSettings(env);
    if (settings instanceof RequestError) return problemResponse(settings);
    const { config, token } = settings;
    let opening: Promise<OpenMaster> | null = null;
    // Not before a route asks for it: a request without a token gets no connection either.
    const open = () => (opening ??= connect(config));
    const response = await createApp({
      master: lazyMaster(open),
      access: { kind: "token", token },
      followEvents: async (after, signal) => eventFollower(await open())(after, signal),
      ping: async () => {
        const { redis, keys } = await open();
        await writeFormat(redis, keys);
      },
      nowMs: Date.now,
      onError: (error, requestId) => console.error(JSON.stringify({ requestId, error: loggable(error) })),
      shutdown: new AbortController().signal,
    }).fetch(request);

    const close = async (): Promise<void> => {
      await opening?.then((opened) => opened.close(), ignoreFailed);
    };
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

type Settings = { readonly config: Config; readonly token: string };

/** The settings; without them, the error that answers every request. It is for the operator and contains no values. */
function readSettings(env: Env): Settings | RequestError {
  try {
    const texts = Object.entries(env).filter((pair): pair is [string, string] => typeof pair[1] === "string");
    const config = loadConfig(Object.fromEntries(texts));
    if (config.token === null)
      return new RequestError(
        "forbidden",
        "This API has no token, so it serves nobody: set STITCH_TOKEN (wrangler secret put STITCH_TOKEN).",
      );
    if (config.redisUrl === null)
      return new RequestError(
        "redis_unavailable",
        "This API knows of no Redis: set REDIS_URL (wrangler secret put REDIS_URL).",
      );
    if (config.masterModule !== null)
      return misconfigured(new ConfigError("STITCH_MASTER: an edge isolate loads no module; run this API on Node"));
    return { config, token: checkToken(config.token.reveal(), true) };
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    return misconfigured(error);
  }
}

function misconfigured(cause: ConfigError | RedisRefused): RequestError {
  const next = "Change it in wrangler.toml, or with wrangler secret put.";
  return new RequestError("internal", `This API is not set up right. ${cause.message}. ${next}`, {}, { cause });
}

/** Has a request of this isolate found that Redis is fit to hold the cluster? Checked once, not with each request. */
let checked = false;

async function connect(config: Config): Promise<OpenMaster> {
  try {
    const opened = await openMaster({
      redisUrl: config.redisUrl?.reveal() ?? "",
      cluster: config.cluster,
      chosen: config.master,
      wrap: null,
      id: MASTER_ID,
      deadAfterMs: config.deadAfterMs,
      candidacy: null,
      jobRetentionMs: config.jobRetentionMs,
      onError: (error) => console.warn(JSON.stringify({ error: loggable(error) })),
      connectTimeoutMs: CONNECT_MS,
      checkFirst: !checked,
    });
    checked = true;
    return opened;
  } catch (error) {
    if (error instanceof RedisRefused) throw misconfigured(error);
    throw new RequestError(
      "redis_unavailable",
      "Redis cannot be reached from the edge; the request can be sent again with the same Idempotency-Key.",
      {},
      { cause: error },
    );
  }
}

/** A Master that is opened at the first call of one of its ports. */
function lazyMaster(open: () => Promise<OpenMaster>): Master {
  const port = <Name extends Exclude<keyof Master, "id">>(name: Name): Master[Name] =>
    new Proxy({} as Master[Name], {
      get:
        (_target, method) =>
        async (...given: unknown[]): Promise<unknown> => {
          const { [name]: opened } = (await open()).master;
          return Reflect.apply(Reflect.get(opened, method) as (...all: unknown[]) => unknown, opened, given);
        },
    });
  return {
    id: MASTER_ID,
    state: port("state"),
    routing: port("routing"),
    commands: port("commands"),
    upkeep: port("upkeep"),
  };
}
