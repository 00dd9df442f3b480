/** Messages in one batch: few enough that their recipients work on it while the next batch is stored. */
const MOST_AT_ONCE = 100;
/** Characters in one batch. */
const MOST_CHARACTERS = 4 * 1024 * 1024;

/** One message for one node. `stitch`: its recipient there, or "" for several. */
export type QueuedMessage = { readonly from: string; readonly stitch: string; readonly body: string };

/**
 * The messages that wait to be stored in one node's inbox. They go out in batches. A message that
 * found no room waits aside, and with it only those that must not overtake it: two messages of one
 * sender keep their order if they may be for the same stitch.
 */
export class SendQueue<P extends QueuedMessage> {
  /** The messages that go next, in order. */
  #ready: P[] = [];
  /** The messages that found no room, or must not overtake one that found none, in order. */
  #aside: P[] = [];
  /** The stitches that had no room at the last try; "" means several. Each of them has a message aside. */
  #full = new Set<string>();
  /** The senders that have messages aside: is one of those messages for several? */
  #senders = new Map<string, boolean>();

  get isEmpty(): boolean {
    return this.#ready.length === 0 && this.#aside.length === 0;
  }

  get aside(): readonly P[] {
    return this.#aside;
  }

  /** Was there no room for this stitch at the last try? */
  isFull(stitch: string): boolean {
    return this.#full.has(stitch);
  }

  /** @returns whether the message may go out at once. */
  push(message: P): boolean {
    const waits = this.#full.size > 0 && this.#mustWait(message);
    if (waits) this.#setAside(message);
    else this.#ready.push(message);
    return !waits;
  }

  /** Takes out the next batch. */
  next(): P[] {
    let characters = 0;
    let count = 0;
    const toSeveral = new Map<string, boolean>();
    for (const { from, stitch, body } of this.#ready) {
      characters += body.length;
      if (count === MOST_AT_ONCE || (count > 0 && characters > MOST_CHARACTERS)) break;
      // Within a batch, an earlier message may be refused and a later one stored; the later one would arrive first.
      if ((toSeveral.get(from) ?? stitch === "") !== (stitch === "")) break;
      toSeveral.set(from, stitch === "");
      count += 1;
    }
    return this.#ready.splice(0, count);
  }

  /**
   * Takes out one message for each full stitch, to find out whether
   * there is room now. Sending all of them in vain would cost too much.
   */
  probes(): P[] {
    const probes = new Map<string, P>();
    const passed = new Map<string, boolean>();
    let characters = 0;
    for (const message of this.#aside) {
      const { from, stitch, body } = message;
      const isBlocked = stitch === "" ? passed.has(from) : passed.get(from) === true;
      if (!isBlocked && this.#full.has(stitch) && !probes.has(stitch)) {
        characters += body.length;
        if (probes.size > 0 && characters > MOST_CHARACTERS) break;
        probes.set(stitch, message);
      }
      passed.set(from, stitch === "" || passed.get(from) === true);
    }
    const taken = new Set(probes.values());
    if (taken.size > 0) this.#aside = this.#aside.filter((message) => !taken.has(message));
    return [...taken];
  }

  /** Puts back a batch whose result is unknown. */
  putBack(batch: readonly P[]): void {
    this.#ready = [...batch, ...this.#ready];
  }

  /** A batch has been tried: sets the refused messages aside, and makes those ready that need not wait any more. */
  finish(batch: readonly P[], refused: readonly P[]): void {
    if (refused.length === 0 && (this.#full.size === 0 || !batch.some(({ stitch }) => this.#full.has(stitch)))) return;
    for (const { stitch } of batch) this.#full.delete(stitch);
    for (const { stitch } of refused) this.#full.add(stitch);
    this.#sort([...refused, ...this.#ready, ...this.#aside]);
  }

  /** Takes out every message that `isWanted`. Messages that waited only for these may go. */
  takeOut(isWanted: (message: P) => boolean): P[] {
    const all = [...this.#ready, ...this.#aside];
    const taken = new Set(all.filter(isWanted));
    if (taken.size > 0) this.#sort(all.filter((message) => !taken.has(message)));
    return [...taken];
  }

  /** Ready messages come first: they had to wait for no message aside, but messages aside may have to wait for them. */
  #sort(all: readonly P[]): void {
    const full = this.#full;
    this.#ready = [];
    this.#aside = [];
    this.#senders = new Map();
    for (const message of all) this.push(message);
    this.#full = new Set(this.#aside.flatMap(({ stitch }) => (full.has(stitch) ? [stitch] : [])));
  }

  #mustWait({ from, stitch }: P): boolean {
    return this.#full.has(stitch) || this.#senders.get(from) === true || (stitch === "" && this.#senders.has(from));
  }

  #setAside(message: P): void {
    this.#aside.push(message);
    this.#senders.set(message.from, message.stitch === "" || this.#senders.get(message.from) === true);
  }
}
