/** What a node keeps for an inbox without room, while its sender goes on. `recipient`: a node and a stitch of it. */
export type Kept = { readonly from: string; readonly recipient: string; readonly body: string };

type Load = { count: number; characters: number };

const MIB = 1024 * 1024;
/** Of one sender for one recipient: enough for a recipient that is slow for a moment. */
const OF_ONE: Load = { count: 100, characters: MIB };
/** Of all senders for one recipient: as many bytes as wait for one stitch in an inbox, so that it takes no other's place here. */
const FOR_ONE: Load = { count: 1000, characters: 4 * MIB };
/** In all: what this may take of the worker's memory. */
const IN_ALL: Load = { count: 10_000, characters: 32 * MIB };

/** Counts the messages that wait at a node for room, though their senders go on. */
export class Backlog {
  readonly #loads = new Map<string, Load>();

  /** Does something of this sender wait for this recipient? */
  has({ from, recipient }: Pick<Kept, "from" | "recipient">): boolean {
    return this.#loads.has(pairOf(from, recipient));
  }

  /** Counts a message. @returns false where a bound is reached: then it is not counted. One that is alone always has a place. */
  add(kept: Kept): boolean {
    const bounds = boundsOf(kept);
    const isBeyond = ([name, most]: readonly [string, Load]) => {
      const { count, characters } = this.#loads.get(name) ?? { count: 0, characters: 0 };
      return count > 0 && (count >= most.count || characters + kept.body.length > most.characters);
    };
    if (bounds.some(isBeyond)) return false;
    for (const [name] of bounds) {
      const load = this.#loads.get(name) ?? { count: 0, characters: 0 };
      load.count += 1;
      load.characters += kept.body.length;
      this.#loads.set(name, load);
    }
    return true;
  }

  /** A message that was counted waits no more. */
  remove(kept: Kept): void {
    for (const [name] of boundsOf(kept)) {
      const load = this.#loads.get(name);
      if (load === undefined) continue;
      load.count -= 1;
      load.characters -= kept.body.length;
      if (load.count === 0) this.#loads.delete(name);
    }
  }
}

export const pairOf = (from: string, recipient: string): string => `${from} ${recipient}`;

const boundsOf = ({ from, recipient }: Kept) =>
  [
    [pairOf(from, recipient), OF_ONE],
    [recipient, FOR_ONE],
    ["", IN_ALL],
  ] as const;
