import { RequestError } from "../domain/errors.ts";
import type { ApiContext, PlatformLimits } from "./deps.ts";
import type { Places } from "./places.ts";

/** Most streams of one process at once. Each holds a connection of its client, and a connection to Redis or a lease there. */
export const MAX_STREAMS = 200;

/** Answers requests with streams: each holds a place, and is closed when its reader is gone or the API shuts down. */
export class Streams {
  readonly #places: Places;
  readonly #shutdown: AbortSignal;
  readonly #limits: PlatformLimits | null;

  constructor(places: Places, shutdown: AbortSignal, limits: PlatformLimits | null) {
    this.#places = places;
    this.#shutdown = shutdown;
    this.#limits = limits;
  }

  /**
   * @param open creates the stream; its source ends when `ended` aborts, and the stream aborts `ended` when it ends.
   * @throws RequestError `rate_limited`, `unsupported`, and what `open` throws.
   */
  async answer(
    c: ApiContext,
    open: (ended: AbortController) => Promise<ReadableStream<Uint8Array>>,
  ): Promise<Response> {
    if (this.#limits?.streams === false)
      throw new RequestError(
        "unsupported",
        `${this.#limits.platform} sends an answer when it is whole, so nothing can be followed here: ask for a list (Accept: application/json), or ask an API elsewhere.`,
      );
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
