/** Work that goes on after the request that began it was answered, such as the events of a job that has ended. */
export class LateWork {
  readonly #onError: (error: unknown) => void;
  readonly #under = new Set<Promise<void>>();

  /** @param onError called with the errors of the work: a sweep repairs what failed. */
  constructor(onError: (error: unknown) => void) {
    this.#onError = onError;
  }

  add(work: Promise<unknown>): void {
    const ended: Promise<void> = work.then(() => undefined, this.#onError).finally(() => this.#under.delete(ended));
    this.#under.add(ended);
  }

  /** Resolves when no such work is under way. */
  async settled(): Promise<void> {
    while (this.#under.size > 0) await Promise.all(this.#under);
  }
}
