import { hostname } from "node:os";
import { type Config, ConfigError } from "../config.ts";
import { nodeIdFromHostname } from "../domain/names/ids.ts";
import { loadOwnMaster } from "../load-own-master.ts";
import { createLogger, lostLogLines } from "../logger.ts";
import type { RunningPart } from "../running-part.ts";
import { createApp } from "./app.ts";
import { closeBackend, openBackend } from "./backend.ts";
import type { Access } from "./deps.ts";
import { closeServer, listen } from "./listen.ts";
import { seldom } from "../error-log.ts";
import { isLoopback } from "./loopback.ts";
import { createMetrics } from "./metrics.ts";
import { longEnough } from "./token.ts";

const CONNECT_MS = 5000;
const STOP_MS = 5000;
const SETTLE_MS = 1000;
/** How often the same error is logged while Redis stays away. */
const SAME_ERROR_MS = 10_000;

/**
 * Starts the HTTP API in this process; resolves once it accepts requests.
 * @throws ConfigError with the setting to change; the connection error if Redis does not answer within 5 s.
 */
export async function startApi(config: Config): Promise<RunningPart> {
  const allowed = accessOf(config);
  const log = createLogger(config, "api");
  const onRedisError = seldom(SAME_ERROR_MS, (error) => log.warn({ err: error }, "redis"));
  const open = await openBackend(config, {
    id: `api-${nodeIdFromHostname(hostname())}-${process.pid}`,
    wrap: await loadOwnMaster(config.masterModule),
    connectTimeoutMs: CONNECT_MS,
    checkFirst: true,
    onError: onRedisError,
  });
  const shutdown = new AbortController();
  const metrics = createMetrics(open.master.state, lostLogLines, onRedisError);
  const app = createApp({
    access: allowed,
    open: () => open,
    limits: null,
    metrics,
    nowMs: () => performance.now(),
    onError: (error, requestId) => log.error({ requestId, err: error }, "not answered"),
    onAnswer: (answered) => {
      metrics.onAnswer(answered);
      log.debug(answered, "answered");
    },
    shutdown: shutdown.signal,
  });
  const { server, url } = await listen(app, config.host, config.port).catch((error: unknown) => {
    open.close();
    throw error;
  });

  const { promise: ended, resolve: end, reject: fail } = Promise.withResolvers<void>();
  server.on("error", fail);
  let stopping: Promise<void> | null = null;
  const stop = async (): Promise<void> => {
    // First, so that the streams end: otherwise the server would wait for them forever.
    shutdown.abort();
    await closeServer(server, STOP_MS);
    await closeBackend(open, SETTLE_MS);
    end();
  };
  return {
    ready: `API on ${url}, cluster ${config.cluster}${allowed.kind === "loopback" ? "; no STITCH_TOKEN: open to this machine only" : ""}`,
    works: () => open.ping(),
    stop: () => {
      stopping ??= stop();
      return stopping;
    },
    kill: () => {
      shutdown.abort();
      server.close();
      server.closeAllConnections();
      open.close();
      end();
    },
    ended,
  };
}

function accessOf({ token, host }: Config): Access {
  const text = token?.reveal() ?? null;
  if (isLoopback(host)) return text === null ? { kind: "loopback" } : { kind: "token", token: text };
  if (text !== null) return { kind: "token", token: longEnough(text) };
  throw new ConfigError(
    `STITCH_TOKEN: must be set to listen on ${host}, or anyone who reaches it commands the cluster; ` +
      "set it (openssl rand -hex 32), or leave STITCH_HOST out to listen on this machine only",
  );
}
