import { RequestError } from "../domain/errors.ts";
import type { EventResource } from "../contract/event.ts";
import { frame, sseStream } from "./sse-stream.ts";

/** Some thousand events. */
const BACKLOG_BYTES = 1024 * 1024;
/** Without data a browser would not hand the event on. */
const GAP = frame("gap", "{}", null);

/**
 * Events as server-sent events. A reader that falls behind is told so (`event: gap`) and let go; it begins anew. `ended` is
 * aborted at the end in any case.
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
