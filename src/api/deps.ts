import type { Context, Hono } from "hono";
import type { Master } from "../master/ports.ts";
import type { Backend } from "./backend.ts";

/** Who may use the API: every client with the token; if the API has no token, only this machine. */
export type Access = { readonly kind: "token"; readonly token: string } | { readonly kind: "loopback" };

/** One answered request, for a log and for metrics. `route` is the pattern, such as `/v1/nodes/:node`. */
export type Answered = {
  readonly requestId: string;
  readonly method: string;
  readonly path: string;
  readonly route: string;
  readonly status: number;
  readonly durationMs: number;
};

/** What the platform cannot do; requests that need it get a clear error. */
export type PlatformLimits = {
  /** Its name, for people. */
  readonly platform: string;
  /** Can an answer be sent while it comes into being? */
  readonly streams: boolean;
  /** The longest wait that a request may ask for, in milliseconds. */
  readonly maxWaitMs: number;
};

/** Everything that the app depends on. Creating the app does no I/O and depends on no runtime. */
export type ApiDeps = {
  readonly access: Access;
  /**
   * The cluster for one request: over connections that all requests share, or over some of its own. Called when a route needs it, so
   * never for a request that is not let in. @throws RequestError if it cannot be reached.
   */
  readonly open: (bindings: ApiEnv["Bindings"]) => Backend | Promise<Backend>;
  /** null: the platform has none. */
  readonly limits: PlatformLimits | null;
  /** The metrics in Prometheus's text format; without it there is no /metrics. */
  readonly metrics?: { render(): Promise<{ readonly contentType: string; readonly text: string }> };
  /** Most streams (events, followed logs) at once, half of them for one client; default 200. */
  readonly maxStreams?: number;
  /** Most waiting requests (for a job's end, a receipt, a reply) at once, half of them for one client; default 400. */
  readonly maxWaits?: number;
  readonly nowMs: () => number;
  /** Called with what the client does not get: the cause of a 500 or a 503. */
  readonly onError: (error: unknown, requestId: string) => void;
  readonly onAnswer?: (answered: Answered) => void;
  /** Aborts when the API begins to shut down: streams end, and new requests are refused. */
  readonly shutdown: AbortSignal;
};

/**
 * `address`: the client's address, if the runtime provides it. `backend`: the cluster over this request's own connections, on the edge.
 * `open`: the cluster for this request. `late` aborts when the time for an answer is up and the client got an error instead.
 * `allowMs` gives a request `ms` more time, because its client asked to wait for something.
 */
export type ApiEnv = {
  Bindings: { readonly address?: string | undefined; readonly backend?: () => Promise<Backend> };
  Variables: {
    requestId: string;
    open: () => Backend | Promise<Backend>;
    late: AbortSignal;
    allowMs: (ms: number) => void;
  };
};
export type Api = Hono<ApiEnv>;
export type ApiContext = Context<ApiEnv>;

/** The Master for this request. @throws RequestError if the cluster cannot be reached. */
export const masterFor = async (c: ApiContext): Promise<Master> => (await c.get("open")()).master;
