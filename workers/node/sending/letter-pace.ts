/** Dead letters that one sender makes, and nothing else, before it is slowed: as many as a program makes by a mistake. */
const FREE = 100;
/**
 * From then on its messages go out one in so long, and so much more for each MiB. Not slower: what it has written before its
 * output was held up, 64 KiB in the pipe and as much read from it, must be through within the 5 s for which one recipient may
 * hold up what is for others (P11).
 */
const EACH_MS = 4;
const MIB_MS = 1000;
const MIB = 1024 * 1024;
const MOST_SENDERS = 10_000;

/**
 * Slows whoever makes nothing but dead letters: their number is bounded, but each that is made pushes out an older one, which
 * somebody may want. One message that arrives ends it.
 */
export class LetterPace {
  readonly #senders = new Map<string, { letters: number; nextAtMs: number }>();

  isSlow(from: string): boolean {
    return (this.#senders.get(from)?.letters ?? 0) >= FREE;
  }

  /** How long this message of the sender has to wait before it is sent; 0 for all that are not slowed. */
  delayMs(from: string, characters: number, nowMs: number): number {
    const sender = this.#senders.get(from);
    if (sender === undefined || sender.letters < FREE) return 0;
    const atMs = Math.max(nowMs, sender.nextAtMs);
    sender.nextAtMs = atMs + EACH_MS + (MIB_MS * characters) / MIB;
    return atMs - nowMs;
  }

  /** A message of it is a dead letter, or will be. */
  lost(from: string): void {
    if (this.#senders.size >= MOST_SENDERS) this.#senders.clear();
    const sender = this.#senders.get(from) ?? { letters: 0, nextAtMs: Number.NEGATIVE_INFINITY };
    sender.letters += 1;
    this.#senders.set(from, sender);
  }

  /** A message of it is in the inbox of somebody who can take it. */
  arrived(from: string): void {
    this.#senders.delete(from);
  }
}
