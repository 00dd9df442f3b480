import { RequestError } from "../domain/errors.ts";
import type { EventResource } from "../domain/resources.ts";

/** Says that the connection stands; clients give up after three missed ones. */
const COMMENT_EVERY_MS = 15_000;
/** Unsent bytes until a reader counts as fallen behind: some thousand events. */
const BACKLOG_BYTES = 1024 * 1024;

const encoder = new TextEncoder();
const frame = (event: EventResource): Uint8Array =>
  encoder.encode(`id: ${event.id}\nevent: ${event.type}\ndata: ${JSON.stringify(event)}\n\n`);
/** Without data a browser would not hand the event on. */
const GAP = encoder.encode("event: gap\ndata: {}\n\n");
const COMMENT = encoder.encode(": still here\n\n");

/**
 * Events as server-sent events, until the reader cancels, the source ends or `ended` aborts. A reader that falls behind is
 * told so (`event: gap`) and let go; it begins anew. `ended` is aborted in any case, so that the source lets go, too.
 */
export function eventStream(
  source: AsyncIterable<readonly EventResource[]>,
  wanted: (event: EventResource) => boolean,
  ended: AbortController,
  onError: (error: unknown) => void,
): ReadableStream<Uint8Array> {
  return new ReadableStream<Uint8Array>(
    {
      start(controller) {
        // At once, so that the headers and a first sign of life reach the reader.
        controller.enqueue(COMMENT);
        const comments = setInterval(() => {
          if ((controller.desiredSize ?? 0) > 0) controller.enqueue(COMMENT);
        }, COMMENT_EVERY_MS);
        void pump(source, wanted, controller, ended.signal)
          .catch((error: unknown) => {
            if (!ended.signal.aborted) onError(error);
          })
          .finally(() => {
            clearInterval(comments);
            if (!ended.signal.aborted) ended.abort();
            close(controller);
          });
      },
      cancel() {
        ended.abort();
      },
    },
    new ByteLengthQueuingStrategy({ highWaterMark: BACKLOG_BYTES }),
  );
}

async function pump(
  source: AsyncIterable<readonly EventResource[]>,
  wanted: (event: EventResource) => boolean,
  controller: ReadableStreamDefaultController<Uint8Array>,
  ended: AbortSignal,
): Promise<void> {
  try {
    for await (const events of source) {
      for (const event of events.filter(wanted)) {
        if (ended.aborted) return;
        if ((controller.desiredSize ?? 0) <= 0) return controller.enqueue(GAP);
        controller.enqueue(frame(event));
      }
    }
  } catch (error) {
    if (!(error instanceof RequestError && error.code === "events_gone")) throw error;
    if (!ended.aborted) controller.enqueue(GAP);
  }
}

/** A stream its reader has cancelled is closed already, and says so by throwing. */
function close(controller: ReadableStreamDefaultController<Uint8Array>): void {
  if (controller.desiredSize === null) return;
  try {
    controller.close();
  } catch (error) {
    if (!(error instanceof TypeError)) throw error;
  }
}
