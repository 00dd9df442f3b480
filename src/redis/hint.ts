/** A hint is a reason to look, and may get lost: whoever waits for one also looks without. One that came early is kept. */
export class Hint {
  #payloads: string[] = [];
  #wake: (() => void) | null = null;

  /** @param payload what the hint tells beside that something happened. */
  give(payload = ""): void {
    this.#payloads.push(payload);
    this.#wake?.();
  }

  /** What came so far is no news any more: whoever calls this looks after it. */
  forget(): void {
    this.#payloads = [];
  }

  /** Resolves at the first hint since the last call, or after `ms`; with the payloads that came since then. */
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
