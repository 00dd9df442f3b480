import { Hono } from "hono";
import { methodNotAllowed } from "hono/method-not-allowed";
import { requestId } from "hono/request-id";
import { routePath } from "hono/route";
import { RequestError } from "../domain/errors.ts";
import { access } from "./access.ts";
import { boundedBody } from "./bounded-body.ts";
import { routeCluster } from "./cluster.ts";
import { routeCommands } from "./commands.ts";
import { deadline, shuttingDown } from "./deadline.ts";
import type { Api, ApiDeps, ApiEnv } from "./deps.ts";
import { routeEvents } from "./events.ts";
import { routeGroups } from "./groups.ts";
import { routeHealth } from "./health.ts";
import { routeJobs } from "./jobs.ts";
import { routeLogs } from "./logs.ts";
import { routeMessages } from "./messages.ts";
import { routeNodes } from "./nodes.ts";
import { Places } from "./places.ts";
import { problem, requestErrorOf } from "./problem.ts";
import { routeStitches } from "./stitches.ts";
import { MAX_STREAMS, Streams } from "./streams.ts";
import { Waits } from "./waits.ts";

/** Most waiting requests at once. Each holds a connection of its client, for up to a minute. */
const MAX_WAITS = 400;

/** The HTTP API over a Master (http.md), for any runtime. Does no I/O before the first request. */
export function createApp(deps: ApiDeps): Api {
  const app = new Hono<ApiEnv>();
  app.use(requestId({ limitLength: 128 }));
  app.use(async (c, next) => {
    const startMs = deps.nowMs();
    await next();
    deps.onAnswer?.({
      requestId: c.get("requestId"),
      method: c.req.method,
      path: c.req.path,
      route: c.res.status === 404 && c.error === undefined ? "unknown" : routePath(c, -1),
      status: c.res.status,
      durationMs: deps.nowMs() - startMs,
    });
  });
  app.use(async (c, next) => {
    // A process that shuts down is still alive: it would be killed if this probe failed.
    if (deps.shutdown.aborted && c.req.path !== "/livez") throw shuttingDown();
    await next();
  });
  app.use(async (c, next) => {
    c.set("open", () => deps.open(c.env));
    await next();
  });
  app.use(access(deps.access));
  app.use(boundedBody());
  app.use(deadline(deps.shutdown));
  app.use(
    methodNotAllowed({
      app,
      onMethodNotAllowed: (c, methods) => {
        c.header("Allow", methods.join(", "));
        return problem(c, new RequestError("method_not_allowed", `This route takes ${methods.join(", ")}.`));
      },
    }),
  );
  app.notFound((c) =>
    problem(c, new RequestError("not_found", `There is no route ${c.req.path}; GET /openapi.json lists them.`)),
  );
  app.onError((error, c) => {
    const { code, cause } = requestErrorOf(error);
    if (code === "internal" || code === "redis_unavailable") deps.onError(cause ?? error, c.get("requestId"));
    return problem(c, error);
  });
  const places = new Places("streams", deps.maxStreams ?? MAX_STREAMS, deps.access);
  const streams = new Streams(places, deps.shutdown, deps.limits);
  const waits = new Waits(new Places("requests that wait", deps.maxWaits ?? MAX_WAITS, deps.access), deps.limits);
  routeCluster(app);
  routeNodes(app);
  routeStitches(app);
  routeGroups(app);
  routeCommands(app, waits);
  routeJobs(app, waits);
  routeMessages(app, waits);
  routeEvents(app, deps, streams);
  routeLogs(app, deps, streams);
  routeHealth(app, deps);
  return app;
}
