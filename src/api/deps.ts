import type { Context, Hono } from "hono";
import type { EventResource } from "../contract/event.ts";
import type { Master } from "../master/ports.ts";

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

/** Everything that the app depends on. Creating the app does no I/O and depends on no runtime. */
export type ApiDeps = {
  readonly master: Master;
  readonly access: Access;
  /**
   * Follows events after an id (null: from now on), until the signal aborts. Resolves once the position is fixed: every event
   * after that is included. @throws RequestError `events_gone`; the iteration throws `events_gone` if its reader was too slow.
   */
  readonly followEvents: (
    after: string | null,
    signal: AbortSignal,
  ) => Promise<AsyncIterable<readonly EventResource[]>>;
  /** Resolves if Redis answers and accepts writes. */
  readonly ping: () => Promise<void>;
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
 * `address`: the client's address, if the runtime provides it; in tests and on the edge there may be no bindings at all.
 * `late` aborts when the time for an answer is up and the client got an error instead. `allowMs` gives a request `ms` more
 * time, because its client asked to wait for something.
 */
export type ApiEnv = {
  Bindings: { readonly address?: string | undefined };
  Variables: { requestId: string; late: AbortSignal; allowMs: (ms: number) => void };
};
export type Api = Hono<ApiEnv>;
export type ApiContext = Context<ApiEnv>;
