/** A hint is a reason to look now. It may get lost, so a waiter also looks without one. An early hint is kept. */
export class Hint {
  #payloads: string[] = [];
  #wake: (() => void) | null = null;

  /** @param payload what the hint says, beside the fact that something happened. */
  give(payload = ""): void {
    this.#payloads.push(payload);
    this.#wake?.();
  }

  /** Drops the hints that came so far: the caller looks after this call, and so sees what they are about. */
  forget(): void {
    this.#payloads = [];
  }

  /** Resolves at the first hint since the last call, or after `ms`, with the payloads that came since the last call. */
  next(ms: number): Promise<readonly string[]> {
    return new Promise((resolve) => {
      const done = () => {
        clearTimeout(timer);
        this.#wake = null;
        const payloads = this.#payloads;
        this.#payloads = [];
        resolve(payloads);
      };
      const timer = setTimeout(done, ms);
      this.#wake = done;
      if (this.#payloads.length > 0) done();
    });
  }
}
