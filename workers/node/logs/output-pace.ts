/** Part of the worker's time that reading what its stitches print may take, all of them together. */
const SHARE = 0.1;
/** Reading time owed up to which nobody is held up: what a stitch that prints little never comes to. */
const LEAST_OWED_MS = 0.5;
/** Most that one slice of reading counts: where it took longer, the machine hung, and that is not the stitch's doing. */
const MOST_OWED_MS = 100;

/** `paidAtMs`: what each debtor will have been paid when this one owes nothing more. `resume`: where it pauses until then. */
type Debtor = { paidAtMs: number; resume: (() => void) | null };

/**
 * Shares out the time that a worker spends on reading what its stitches print. Each reader owes the time it took, and pauses
 * until it is paid off: `SHARE` of the time that passes pays for those that owe, each for as much as the others. A program
 * that floods then waits at its full pipe, while the worker's heartbeat and the neighbours' output go on. By time spent, not
 * by lines or bytes: it is time that is short.
 *
 * To pay each of them bit by bit would itself cost time. So one count goes up, what each that owes has been paid, and each
 * waits for it to come to its own mark.
 */
export class OutputPace {
  readonly #nowMs: () => number;
  #atMs: number;
  #paidMs = 0;
  /** Whose mark comes first is first. */
  readonly #debtors: Debtor[] = [];
  #timer: NodeJS.Timeout | undefined;

  /** @param nowMs a clock that never goes back, with fractions of a millisecond. */
  constructor(nowMs: () => number) {
    this.#nowMs = nowMs;
    this.#atMs = nowMs();
  }

  /** One for each stream that is read. */
  reader(): { spent(ms: number): Promise<void> | null } {
    const debtor: Debtor = { paidAtMs: 0, resume: null };
    return {
      /** @returns a pause to wait for before reading on, or null. */
      spent: (ms) => {
        this.#pay();
        this.#owe(debtor, Math.min(MOST_OWED_MS, ms));
        return debtor.paidAtMs - this.#paidMs < LEAST_OWED_MS ? null : this.#pause(debtor);
      },
    };
  }

  #owe(debtor: Debtor, ms: number): void {
    const known = this.#debtors.indexOf(debtor);
    if (known !== -1) this.#debtors.splice(known, 1);
    debtor.paidAtMs = Math.max(this.#paidMs, debtor.paidAtMs) + ms;
    const before = this.#debtors.findLastIndex(({ paidAtMs }) => paidAtMs <= debtor.paidAtMs);
    this.#debtors.splice(before + 1, 0, debtor);
  }

  #pause(debtor: Debtor): Promise<void> {
    return new Promise((resume) => {
      debtor.resume = resume;
      this.#schedule();
    });
  }

  /** Hands out what has come together since the last time; who is paid off goes on. */
  #pay(): void {
    const nowMs = this.#nowMs();
    let leftMs = (nowMs - this.#atMs) * SHARE;
    this.#atMs = nowMs;
    for (let first = this.#debtors[0]; first !== undefined; first = this.#debtors[0]) {
      const owedMs = (first.paidAtMs - this.#paidMs) * this.#debtors.length;
      if (owedMs > leftMs) {
        this.#paidMs += leftMs / this.#debtors.length;
        return;
      }
      leftMs -= owedMs;
      this.#paidMs = first.paidAtMs;
      this.#debtors.shift();
      first.resume?.();
      first.resume = null;
    }
  }

  /** Looks again when the first of those that pause is paid off. */
  #schedule(): void {
    clearTimeout(this.#timer);
    let owedMs = 0;
    for (const [index, { paidAtMs, resume }] of this.#debtors.entries()) {
      if (resume !== null) {
        owedMs += (paidAtMs - this.#paidMs) * (this.#debtors.length - index);
        this.#timer = setTimeout(() => this.#look(), Math.ceil(owedMs / SHARE)).unref();
        return;
      }
      owedMs += paidAtMs - this.#paidMs;
    }
  }

  #look(): void {
    this.#pay();
    this.#schedule();
  }
}
