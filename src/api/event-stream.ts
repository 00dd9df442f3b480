import { RequestError } from "../domain/errors.ts";
import type { EventResource } from "../contract/event.ts";
import { frame, sseStream } from "./sse-stream.ts";

/** A few thousand events. */
const BACKLOG_BYTES = 1024 * 1024;
/** A browser does not deliver an event without data. */
const GAP = frame("gap", "{}", null);

/**
 * Events as server-sent events. A reader that falls behind gets `event: gap` and is disconnected; it must start again.
 * `ended` is aborted at the end in any case.
 */
export function eventStream(
  source: AsyncIterable<readonly EventResource[]>,
  wanted: (event: EventResource) => boolean,
  ended: AbortController,
  onError: (error: unknown) => void,
): ReadableStream<Uint8Array> {
  return sseStream(frames(source, wanted), { backlogBytes: BACKLOG_BYTES, farewell: GAP, ended, onError });
}

async function* frames(
  source: AsyncIterable<readonly EventResource[]>,
  wanted: (event: EventResource) => boolean,
): AsyncGenerator<readonly string[]> {
  try {
    for await (const events of source)
      yield events.filter(wanted).map((event) => frame(event.type, JSON.stringify(event), event.id));
  } catch (error) {
    if (!(error instanceof RequestError && error.code === "events_gone")) throw error;
    yield [GAP];
  }
}
