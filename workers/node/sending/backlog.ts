/** A message that a node keeps for an inbox without room, while its sender goes on. `recipient`: a node and a stitch on it. */
export type Kept = { readonly from: string; readonly recipient: string; readonly body: string };

type Load = { count: number; characters: number };

const MIB = 1024 * 1024;
/** Messages of one sender for one recipient: enough for a recipient that is slow for a moment. */
const OF_ONE: Load = { count: 100, characters: MIB };
/**
 * Messages of all senders for one recipient: as many bytes as may wait
 * for one stitch in an inbox, so that it takes no room from others here.
 */
const FOR_ONE: Load = { count: 1000, characters: 4 * MIB };
/** All messages: the share of the worker's memory that they may take. */
const IN_ALL: Load = { count: 10_000, characters: 32 * MIB };

/** Counts the messages that wait at a node for room while their senders go on. */
export class Backlog {
  readonly #loads = new Map<string, Load>();

  /** Does a message of this sender wait for this recipient? */
  has({ from, recipient }: Pick<Kept, "from" | "recipient">): boolean {
    return this.#loads.has(pairOf(from, recipient));
  }

  /**
   * Counts a message. @returns false if a bound is reached; then the
   * message is not counted. A message that is alone always has room.
   */
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

  /** A counted message does not wait any more. */
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
