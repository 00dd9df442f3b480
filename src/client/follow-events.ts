import type { EventResource } from "../domain/resources.ts";
import { ApiError, ApiUnreachable, NotTheApi } from "./errors.ts";
import { open, type Transport, translated } from "./request.ts";
import { serverSentEvents } from "./sse.ts";

/** The API sends a comment every 15 s: three missed ones mean that the connection is gone. */
const SILENCE_MS = 45_000;
const CONNECT_MS = 15_000;
const FIRST_PAUSE_MS = 250;
const LONGEST_PAUSE_MS = 5000;

export type FollowOptions = {
  /** Comma-separated; `node.*` takes a family. */
  readonly type?: string | undefined;
  readonly node?: string | undefined;
  readonly group?: string | undefined;
  /** Id of the last event already seen (default: from now on). */
  readonly since?: string | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Called when events were missed: the API no longer has the ones after the last that was seen. */
  readonly onGap?: () => void;
  /** Milliseconds without an API until the iteration gives up (default 60,000). */
  readonly giveUpAfterMs?: number;
};

/**
 * The cluster's events as they happen, for as long as the caller iterates. A lost connection is taken up again after the
 * last event that was seen, so no event comes twice, and none is missed without `onGap`.
 * @throws ApiUnreachable when nothing answers at first, or later for `giveUpAfterMs`; ApiError (`events_gone` where `since` was trimmed).
 */
export async function* followEvents(transport: Transport, options: FollowOptions): AsyncGenerator<EventResource> {
  const position: Position = { lastId: options.since };
  let connected = false;
  let failingSinceMs: number | null = null;
  let pauseMs = FIRST_PAUSE_MS;
  for (;;) {
    try {
      for await (const event of oneConnection(transport, options, position)) {
        connected = true;
        failingSinceMs = null;
        pauseMs = FIRST_PAUSE_MS;
        if (event !== null) yield event;
      }
    } catch (error) {
      if (!connected || !mayPass(error)) throw error;
      if (error instanceof ApiError && error.code === "events_gone") {
        options.onGap?.();
        position.lastId = undefined;
      }
      failingSinceMs ??= Date.now();
      if (Date.now() - failingSinceMs > (options.giveUpAfterMs ?? 60_000)) throw error;
    }
    // Between a half and a whole pause: readers cut off together do not all come back at once.
    await pause(pauseMs * (0.5 + Math.random() / 2), options.signal);
    pauseMs = Math.min(LONGEST_PAUSE_MS, pauseMs * 2);
  }
}

type Position = { lastId: string | undefined };

/** Yields null once the connection stands, then its events until it ends. */
async function* oneConnection(
  transport: Transport,
  options: FollowOptions,
  position: Position,
): AsyncGenerator<EventResource | null> {
  const ended = new AbortController();
  let silence = setTimeout(() => ended.abort(), CONNECT_MS);
  const alive = (): void => {
    clearTimeout(silence);
    silence = setTimeout(() => ended.abort(), SILENCE_MS);
  };
  const { type, node, group } = options;
  try {
    const response = await open(
      transport,
      {
        path: "/v1/events",
        query: { type, node, group },
        headers: {
          accept: "text/event-stream",
          ...(position.lastId === undefined ? {} : { "last-event-id": position.lastId }),
        },
        signal: options.signal,
      },
      ended.signal,
    );
    if (response.body === null) throw new NotTheApi(transport.url, "an event stream without a body");
    alive();
    yield null;
    for await (const sent of serverSentEvents(response.body, alive)) {
      if (sent.event === "gap") return;
      position.lastId = sent.id ?? position.lastId;
      yield JSON.parse(sent.data) as EventResource;
    }
  } catch (error) {
    throw translated(transport.url, error, ended.signal, options.signal);
  } finally {
    clearTimeout(silence);
  }
}

function mayPass(error: unknown): boolean {
  return (
    error instanceof ApiUnreachable ||
    (error instanceof ApiError && (error.status === 503 || error.status === 429 || error.code === "events_gone"))
  );
}

/** Milliseconds. @throws the signal's reason as soon as it aborts. */
function pause(ms: number, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    const aborted = (): void => {
      clearTimeout(timer);
      reject(signal?.reason as unknown);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", aborted);
      resolve();
    }, ms);
    if (signal?.aborted === true) aborted();
    else signal?.addEventListener("abort", aborted, { once: true });
  });
}
