import { Hint } from "./hint.ts";

/** A watch for hints about one thing, until `stop()`. */
export type HintWatch = Pick<Hint, "give" | "next" | "forget"> & { stop(): void };

/** The watches for hints, by the id of the thing that the hints are about. */
export class HintWatchers {
  readonly #watching = new Map<string, Set<Hint>>();

  watch(id: string): HintWatch {
    const hint = new Hint();
    const hints = this.#watching.get(id) ?? new Set();
    this.#watching.set(id, hints.add(hint));
    return {
      give: (payload) => hint.give(payload),
      next: (ms) => hint.next(ms),
      forget: () => hint.forget(),
      stop: () => {
        if (hints.delete(hint) && hints.size === 0) this.#watching.delete(id);
      },
    };
  }

  has(id: string): boolean {
    return this.#watching.has(id);
  }

  tell(id: string, payload = ""): void {
    for (const hint of this.#watching.get(id) ?? []) hint.give(payload);
  }

  tellAll(): void {
    for (const id of this.#watching.keys()) this.tell(id);
  }
}
