/** The part of the worker's time that reading the output of all its stitches together may take. */
const SHARE = 0.1;
/** A reader that owes less time than this does not pause: a stitch that prints little never owes as much. */
const LEAST_OWED_MS = 0.5;
/** One slice of reading counts at most this much: if it took longer, the machine hung, and the stitch did not cause that. */
const MOST_OWED_MS = 100;

/** `paidAtMs`: the value of `#paidMs` at which this debtor owes nothing more. `resume`: ends its pause; null if it has none. */
type Debtor = { paidAtMs: number; resume: (() => void) | null };

/**
 * Limits the time that a worker spends on reading its stitches' output. Each reader owes the time that it took, and pauses
 * until it owes nothing: `SHARE` of the passing time is paid to all debtors, in equal parts. A program that floods its output
 * then waits at its full pipe, while the worker's heartbeat and the output of other stitches go on. The pace counts time, not
 * lines or bytes, because time is scarce.
 *
 * To pay each debtor bit by bit would itself cost time. So one counter (`#paidMs`) rises: the amount that each debtor has been
 * paid. Each debtor waits until the counter reaches its own mark (`paidAtMs`).
 */
export class OutputPace {
  readonly #nowMs: () => number;
  #atMs: number;
  #paidMs = 0;
  /** In the order of their marks, the lowest first. */
  readonly #debtors: Debtor[] = [];
  #timer: NodeJS.Timeout | undefined;

  /** @param nowMs a clock that never goes back, with fractions of a millisecond. */
  constructor(nowMs: () => number) {
    this.#nowMs = nowMs;
    this.#atMs = nowMs();
  }

  /** A new reader; make one for each stream that is read. */
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

  /** Pays out the share of the time since the last call. A debtor that owes nothing more goes on. */
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

  /** Sets the timer for the moment when the first pausing debtor owes nothing more. */
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
