import type { Routes } from "../../../src/master/ports.ts";

/** How long the answer that there is a stitch is used, and the answer that there is none. */
const KNOWN_MS = 5000;
const UNKNOWN_MS = 1000;
const MOST = 10_000;

type Answer = { readonly isKnown: boolean | Promise<boolean>; readonly untilMs: number };

/** Knows whether a stitch takes the messages for a full id. A message that no stitch takes is a dead letter at that node. */
export class KnownStitches {
  readonly #routing: Pick<Routes, "takesMessages">;
  readonly #answers = new Map<string, Answer>();

  constructor(routing: Pick<Routes, "takesMessages">) {
    this.#routing = routing;
  }

  /** Is there a stitch that takes messages, or one that has moved from there? true if that cannot be found out. */
  isKnown(id: string, nowMs: number): boolean | Promise<boolean> {
    const before = this.#answers.get(id);
    if (before !== undefined && nowMs < before.untilMs) return before.isKnown;
    if (this.#answers.size >= MOST) this.#answers.clear();
    const isKnown = this.#look(id, nowMs);
    this.#answers.set(id, { isKnown, untilMs: nowMs + KNOWN_MS });
    return isKnown;
  }

  async #look(id: string, nowMs: number): Promise<boolean> {
    const isKnown = await this.#routing.takesMessages(id).catch(() => true);
    this.#answers.set(id, { isKnown, untilMs: nowMs + (isKnown ? KNOWN_MS : UNKNOWN_MS) });
    return isKnown;
  }
}
