/** Parcels in one batch: few enough that its readers work on it while the next is stored. */
const MOST_AT_ONCE = 100;
/** And characters of them. */
const MOST_CHARACTERS = 4 * 1024 * 1024;

/** One message for one node. `stitch`: the one it is for there, or "" for several. */
export type Parcel = { readonly from: string; readonly stitch: string; readonly body: string };

/**
 * What waits to be stored in one node's inbox. It goes out in batches, and what found no room comes back behind everything
 * that need not wait for it. Two parcels of one sender keep their order where they may be for the same stitch.
 */
export class Lane<P extends Parcel> {
  #waiting: P[] = [];

  get isEmpty(): boolean {
    return this.#waiting.length === 0;
  }

  push(parcel: P): void {
    this.#waiting.push(parcel);
  }

  /** Takes out what goes next. */
  next(): P[] {
    let characters = 0;
    let count = 0;
    const toSeveral = new Map<string, boolean>();
    for (const { from, stitch, body } of this.#waiting) {
      characters += body.length;
      if (count === MOST_AT_ONCE || (count > 0 && characters > MOST_CHARACTERS)) break;
      // Within a batch the one may be refused and the other stored, so that what was said later would be there first.
      if ((toSeveral.get(from) ?? stitch === "") !== (stitch === "")) break;
      toSeveral.set(from, stitch === "");
      count += 1;
    }
    return this.#waiting.splice(0, count);
  }

  /** Puts back a batch of which nobody knows what became. */
  putBack(batch: readonly P[]): void {
    this.#waiting = [...batch, ...this.#waiting];
  }

  /** Puts back what found no room. @returns whether something else goes before it. */
  putBehind(refused: readonly P[]): boolean {
    const full = new Set(refused.map(({ stitch }) => stitch));
    /** Of each sender of whom something waits: is it for several? */
    const waits = new Map<string, boolean>();
    const note = ({ from, stitch }: P) => waits.set(from, stitch === "" || waits.get(from) === true);
    for (const parcel of refused) note(parcel);
    const before: P[] = [];
    const behind: P[] = [];
    for (const parcel of this.#waiting) {
      const { from, stitch } = parcel;
      if (!full.has(stitch) && waits.get(from) !== true && !(waits.has(from) && stitch === "")) before.push(parcel);
      else {
        note(parcel);
        behind.push(parcel);
      }
    }
    this.#waiting = [...before, ...refused, ...behind];
    return before.length > 0;
  }

  /** Takes out every parcel that `isWanted`. */
  takeOut(isWanted: (parcel: P) => boolean): P[] {
    const taken = this.#waiting.filter(isWanted);
    if (taken.length > 0) this.#waiting = this.#waiting.filter((parcel) => !isWanted(parcel));
    return taken;
  }
}
