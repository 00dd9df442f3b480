/** Time between comments, which show that the connection is up; clients give up after three missed ones. */
const COMMENT_EVERY_MS = 15_000;
/** A reader that takes nothing for this long is disconnected: it holds a place without using it. */
const SLOW_READER_MS = 60_000;

const encoder = new TextEncoder();
const COMMENT = encoder.encode(": still here\n\n");

/** One server-sent event. `data` has no line breaks. */
export const frame = (event: string, data: string, id: string | null): string =>
  `${id === null ? "" : `id: ${id}\n`}event: ${event}\ndata: ${data}\n\n`;

type SseOptions = {
  /** A reader with this many unsent bytes counts as fallen behind. */
  readonly backlogBytes: number;
  /** A reader that falls behind gets this text and is disconnected; null: the stream and its source wait for the reader. */
  readonly farewell: string | null;
  /** Aborted at the end in any case, so that the source ends, too. */
  readonly ended: AbortController;
  /** Called with the error if the source fails; the stream ends. */
  readonly onError: (error: unknown) => void;
};

/** Frames as a body of server-sent events, until the reader cancels, the source ends or `ended` aborts. */
export function sseStream(
  source: AsyncIterable<readonly string[]>,
  { backlogBytes, farewell, ended, onError }: SseOptions,
): ReadableStream<Uint8Array> {
  const end = () => {
    if (!ended.signal.aborted) ended.abort();
  };
  const room = readerRoom(ended.signal);

  async function pump(controller: ReadableStreamDefaultController<Uint8Array>): Promise<void> {
    for await (const frames of source) {
      for (const text of frames) {
        if (ended.signal.aborted) return;
        if ((controller.desiredSize ?? 0) <= 0) {
          if (farewell !== null) return controller.enqueue(encoder.encode(farewell));
          if (!(await room.wait())) return;
        }
        controller.enqueue(encoder.encode(text));
      }
    }
  }

  return new ReadableStream<Uint8Array>(
    {
      start(controller) {
        // At once, so that the headers and a first sign of life reach the reader.
        controller.enqueue(COMMENT);
        const comments = setInterval(() => {
          if ((controller.desiredSize ?? 0) > 0) controller.enqueue(COMMENT);
        }, COMMENT_EVERY_MS);
        void pump(controller)
          .catch((error: unknown) => {
            if (!ended.signal.aborted) onError(error);
          })
          .finally(() => {
            clearInterval(comments);
            end();
            close(controller);
          });
      },
      pull() {
        room.made();
      },
      cancel: end,
    },
    new ByteLengthQueuingStrategy({ highWaterMark: backlogBytes }),
  );
}

/** Waits for a reader to take something, at most `SLOW_READER_MS`. */
function readerRoom(ended: AbortSignal): { wait(): Promise<boolean>; made(): void } {
  let onRoom = (): void => undefined;
  return {
    made: () => onRoom(),
    /** Resolves with true when the reader has taken something, with false when the time is up or the stream has ended. */
    wait: () =>
      new Promise((resolve) => {
        const done = (taken: boolean) => {
          clearTimeout(timer);
          ended.removeEventListener("abort", cut);
          resolve(taken);
        };
        const cut = () => done(false);
        const timer = setTimeout(cut, SLOW_READER_MS);
        ended.addEventListener("abort", cut);
        onRoom = () => done(true);
      }),
  };
}

/** Closes the stream. If its reader has cancelled it, it is closed already and throws. */
function close(controller: ReadableStreamDefaultController<Uint8Array>): void {
  if (controller.desiredSize === null) return;
  try {
    controller.close();
  } catch (error) {
    if (!(error instanceof TypeError)) throw error;
  }
}
