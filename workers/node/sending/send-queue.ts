/** Messages in one batch: few enough that its readers work on it while the next is stored. */
const MOST_AT_ONCE = 100;
/** And characters of them. */
const MOST_CHARACTERS = 4 * 1024 * 1024;

/** One message for one node. `stitch`: the one it is for there, or "" for several. */
export type QueuedMessage = { readonly from: string; readonly stitch: string; readonly body: string };

/**
 * What waits to be stored in one node's inbox. It goes out in batches. What found no room waits aside, and with it only what
 * must not overtake it: two messages of one sender keep their order where they may be for the same stitch.
 */
export class SendQueue<P extends QueuedMessage> {
  /** Goes next, in this order. */
  #ready: P[] = [];
  /** Found no room, or must not overtake one that did, in this order. */
  #aside: P[] = [];
  /** For whom there was no room at the last try; "": for several. Something aside is for each of them. */
  #full = new Set<string>();
  /** Of each sender of whom something is aside: is it for several? */
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

  /** @returns whether it may go out at once. */
  push(message: P): boolean {
    const waits = this.#full.size > 0 && this.#mustWait(message);
    if (waits) this.#setAside(message);
    else this.#ready.push(message);
    return !waits;
  }

  /** Takes out what goes next. */
  next(): P[] {
    let characters = 0;
    let count = 0;
    const toSeveral = new Map<string, boolean>();
    for (const { from, stitch, body } of this.#ready) {
      characters += body.length;
      if (count === MOST_AT_ONCE || (count > 0 && characters > MOST_CHARACTERS)) break;
      // Within a batch the one may be refused and the other stored, so that what was said later would be there first.
      if ((toSeveral.get(from) ?? stitch === "") !== (stitch === "")) break;
      toSeveral.set(from, stitch === "");
      count += 1;
    }
    return this.#ready.splice(0, count);
  }

  /** Takes out one message for each full stitch, to see whether there is room by now: all of them would be much to send in vain. */
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

  /** Puts back a batch of which nobody knows what became. */
  putBack(batch: readonly P[]): void {
    this.#ready = [...batch, ...this.#ready];
  }

  /** A batch has been tried: sets aside what found no room, and lets go on what need not wait any more. */
  finish(batch: readonly P[], refused: readonly P[]): void {
    if (refused.length === 0 && (this.#full.size === 0 || !batch.some(({ stitch }) => this.#full.has(stitch)))) return;
    for (const { stitch } of batch) this.#full.delete(stitch);
    for (const { stitch } of refused) this.#full.add(stitch);
    this.#sort([...refused, ...this.#ready, ...this.#aside]);
  }

  /** Takes out every message that `isWanted`; what waited for these alone may go. */
  takeOut(isWanted: (message: P) => boolean): P[] {
    const all = [...this.#ready, ...this.#aside];
    const taken = new Set(all.filter(isWanted));
    if (taken.size > 0) this.#sort(all.filter((message) => !taken.has(message)));
    return [...taken];
  }

  /** What was ready comes first: it could go because it had to wait for nothing aside, which may have to wait for it. */
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
