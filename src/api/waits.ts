import { RequestError } from "../domain/errors.ts";
import type { ApiContext, PlatformLimits } from "./deps.ts";
import type { Places } from "./places.ts";

/** Requests that wait: each holds a place, and waits no longer than the platform can. */
export class Waits {
  readonly #places: Places;
  readonly #limits: PlatformLimits | null;

  constructor(places: Places, limits: PlatformLimits | null) {
    this.#places = places;
    this.#limits = limits;
  }

  /**
   * Does `work`, which waits for at most `waitMs`; 0: it does not wait.
   * @throws RequestError `unsupported` and `rate_limited`, before `work` begins.
   */
  async during<T>(c: ApiContext, waitMs: number, work: () => Promise<T>): Promise<T> {
    if (waitMs === 0) return work();
    const limits = this.#limits;
    if (limits !== null && waitMs > limits.maxWaitMs)
      throw new RequestError(
        "unsupported",
        `A request to ${limits.platform} can wait for ${limits.maxWaitMs} ms at most: ask for less and ask again, or ask an API elsewhere.`,
      );
    const giveBack = await this.#places.take(c);
    try {
      return await work();
    } finally {
      giveBack();
    }
  }
}
