import type { ApiContext } from "./deps.ts";
import type { Places } from "./places.ts";

/** Most streams of one process at once. Each holds a connection of its client, and a connection to Redis or a lease there. */
export const MAX_STREAMS = 200;

/** Answers requests with streams: each holds a place, and is closed when its reader is gone or the API shuts down. */
export class Streams {
  readonly #places: Places;
  readonly #shutdown: AbortSignal;

  constructor(places: Places, shutdown: AbortSignal) {
    this.#places = places;
    this.#shutdown = shutdown;
  }

  /**
   * @param open creates the stream; its source ends when `ended` aborts, and the stream aborts `ended` when it ends.
   * @throws RequestError `rate_limited`, and what `open` throws.
   */
  async answer(
    c: ApiContext,
    open: (ended: AbortController) => Promise<ReadableStream<Uint8Array>>,
  ): Promise<Response> {
    const giveBack = await this.#places.take(c);
    const ended = new AbortController();
    const end = () => ended.abort();
    this.#shutdown.addEventListener("abort", end);
    ended.signal.addEventListener("abort", () => {
      giveBack();
      this.#shutdown.removeEventListener("abort", end);
    });
    try {
      const stream = await open(ended);
      // Nobody reads this body, so nothing else would end the source: Hono drops it for HEAD, and if it is late.
      if (c.req.method === "HEAD" || c.get("late").aborted) end();
      return c.body(stream, 200, {
        "Content-Type": "text/event-stream",
        "Cache-Control": "no-store",
        // A proxy that buffers would hold events back.
        "X-Accel-Buffering": "no",
      });
    } catch (error) {
      end();
      throw error;
    }
  }
}
