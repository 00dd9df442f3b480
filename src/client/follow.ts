import { pause } from "../bounded-wait.ts";
import { ApiError, isAway, isRateLimited, NotTheApi } from "./errors.ts";
import { open, type Query, type Transport, translated } from "./request.ts";
import { type ServerSentEvent, serverSentEvents } from "./sse.ts";

/** The API sends a comment every 15 s: three missed ones mean that the connection is gone. */
const SILENCE_MS = 45_000;
const CONNECT_MS = 15_000;
const FIRST_PAUSE_MS = 250;
const LONGEST_PAUSE_MS = 5000;

export type FollowCall = {
  readonly signal?: AbortSignal | undefined;
  /** Milliseconds without an API until the iteration gives up (default 60,000). */
  readonly giveUpAfterMs?: number | undefined;
};

export type Followed = {
  readonly path: string;
  readonly query: Query;
  /** Where the stream begins: the route's parameter `since`. */
  readonly since?: string | undefined;
  /** Does this error mean that the API no longer knows the last id seen? Then the stream continues without an id. */
  readonly isGap?: (error: unknown) => boolean;
  /** Called when `isGap` is true: something was missed. */
  readonly onGap?: (() => void) | undefined;
};

/**
 * The server-sent events of a route, for as long as the caller iterates. After a lost connection, it continues after the
 * last id seen, so nothing comes twice.
 * @throws ApiUnreachable or NotTheApi when the API is away at first, or later for `giveUpAfterMs`; ApiError.
 */
export async function* follow(
  transport: Transport,
  { path, query, since, isGap = () => false, onGap }: Followed,
  { signal, giveUpAfterMs = 60_000 }: FollowCall,
): AsyncGenerator<ServerSentEvent> {
  let begin: Query = { since };
  let lastId: string | undefined;
  let connected = false;
  let failingSinceMs: number | null = null;
  let pauseMs = FIRST_PAUSE_MS;
  for (;;) {
    try {
      for await (const sent of oneConnection(transport, path, { ...query, ...begin }, lastId, signal)) {
        connected = true;
        failingSinceMs = null;
        pauseMs = FIRST_PAUSE_MS;
        if (sent === null) continue;
        lastId = sent.id ?? lastId;
        yield sent;
      }
    } catch (error) {
      const gap = isGap(error);
      if (!connected || !(gap || mayPass(error))) throw error;
      if (gap) {
        onGap?.();
        lastId = undefined;
        begin = {};
      }
      failingSinceMs ??= Date.now();
      if (Date.now() - failingSinceMs > giveUpAfterMs) throw error;
    }
    // Between half a pause and a whole one, so that readers disconnected together do not all reconnect at once.
    await pause(pauseMs * (0.5 + Math.random() / 2), signal);
    signal?.throwIfAborted();
    pauseMs = Math.min(LONGEST_PAUSE_MS, pauseMs * 2);
  }
}

/** Yields null once the connection is open, then its events until it ends. */
async function* oneConnection(
  transport: Transport,
  path: string,
  query: Query,
  lastId: string | undefined,
  signal: AbortSignal | undefined,
): AsyncGenerator<ServerSentEvent | null> {
  const ended = new AbortController();
  let silence = setTimeout(() => ended.abort(), CONNECT_MS);
  const alive = (): void => {
    clearTimeout(silence);
    silence = setTimeout(() => ended.abort(), SILENCE_MS);
  };
  const headers = { accept: "text/event-stream", ...(lastId === undefined ? {} : { "last-event-id": lastId }) };
  try {
    const response = await open(transport, { path, query, headers, signal }, ended.signal);
    const type = response.headers.get("content-type") ?? "no content type";
    if (response.body === null || !type.startsWith("text/event-stream"))
      throw new NotTheApi(transport.url, `${type} instead of an event stream`, response.status);
    alive();
    yield null;
    yield* serverSentEvents(response.body, alive);
  } catch (error) {
    throw translated(transport.url, error, ended.signal, signal);
  } finally {
    clearTimeout(silence);
  }
}

/** May this error pass? The API, its Redis or the node that it reads from may be back soon. */
function mayPass(error: unknown): boolean {
  return isAway(error) || isRateLimited(error) || (error instanceof ApiError && error.status === 504);
}
