/** Dead letters in a row that a sender may cause before it is slowed: as many as a program causes by a mistake. */
const FREE = 100;
/**
 * After that, each message of the sender waits this long, and this much longer for each MiB. It must not wait longer: the
 * output that the sender wrote before it was held up (64 KiB in the pipe, and as much already read) must be sent within the
 * 5 s for which one recipient may hold up messages for others (P11).
 */
const EACH_MS = 4;
const MIB_MS = 1000;
const MIB = 1024 * 1024;
const MOST_SENDERS = 10_000;

/**
 * Slows a sender that causes only dead letters: their number is bounded, and each new one pushes out an older one that
 * someone may want. One message that arrives ends this.
 */
export class DeadLetterPace {
  readonly #senders = new Map<string, { letters: number; nextAtMs: number }>();

  isSlow(from: string): boolean {
    return (this.#senders.get(from)?.letters ?? 0) >= FREE;
  }

  /** How long this message of the sender has to wait before it is sent; 0 if the sender is not slowed. */
  delayMs(from: string, characters: number, nowMs: number): number {
    const sender = this.#senders.get(from);
    if (sender === undefined || sender.letters < FREE) return 0;
    const atMs = Math.max(nowMs, sender.nextAtMs);
    sender.nextAtMs = atMs + EACH_MS + (MIB_MS * characters) / MIB;
    return atMs - nowMs;
  }

  /** A message of this sender is a dead letter, or will be. */
  lost(from: string): void {
    if (this.#senders.size >= MOST_SENDERS) this.#senders.clear();
    const sender = this.#senders.get(from) ?? { letters: 0, nextAtMs: Number.NEGATIVE_INFINITY };
    sender.letters += 1;
    this.#senders.set(from, sender);
  }

  /** A message of this sender is in the inbox of a stitch that can take it. */
  arrived(from: string): void {
    this.#senders.delete(from);
  }
}
