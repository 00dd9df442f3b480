/** Work that goes on after its request was answered. A later look at the job repeats what fails. */
export class LateWork {
  readonly #onError: (error: unknown) => void;
  readonly #running = new Set<Promise<void>>();

  constructor(onError: (error: unknown) => void) {
    this.#onError = onError;
  }

  /** Lets work go on. Its error is reported, and no one else's. */
  add(work: Promise<unknown>): void {
    const running = work.then(() => undefined, this.#onError).finally(() => this.#running.delete(running));
    this.#running.add(running);
  }

  /** Resolves when no work is under way, also none that the work itself has added. */
  async settled(): Promise<void> {
    while (this.#running.size > 0) await Promise.all(this.#running);
  }
}
