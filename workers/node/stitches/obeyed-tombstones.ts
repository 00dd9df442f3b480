import type { Orders } from "../../../src/master/ports.ts";
import { fullId, splitFullId } from "../../../src/domain/names/ids.ts";
import { maySettle } from "../../../src/domain/job/tombstone.ts";
import { passingOver, type UnreadableRecord } from "../../../src/redis/unreadable.ts";
import type { StitchHost } from "./stitch-host.ts";

/** How often a stitch that arrives is looked after by the node itself, in case no Master is left to settle it. */
const SETTLE_MS = 10_000;

/** What Masters have decided about a node's stitches while they could not ask it: tombstones, and the ends of moves. */
export class ObeyedTombstones {
  readonly #orders: Pick<Orders, "words" | "traces">;
  readonly #node: string;
  readonly #steadyNowMs: () => number;
  readonly #onError: (error: unknown) => void;
  /** Stitches that have arrived, and of which was told that they do not settle. */
  readonly #told = new Set<string>();
  /** By stitch: a word that cannot be read. */
  #unreadable: ReadonlyMap<string, UnreadableRecord> = new Map();
  /** How many words had been left, ever, at the last heartbeat that was followed by a look at them. */
  #words = 0;
  #lastSettledMs = Number.NEGATIVE_INFINITY;

  /** @param steadyNowMs a clock that nobody sets. */
  constructor(
    orders: Pick<Orders, "words" | "traces">,
    node: string,
    steadyNowMs: () => number,
    onError: (error: unknown) => void,
  ) {
    this.#orders = orders;
    this.#node = node;
    this.#steadyNowMs = steadyNowMs;
    this.#onError = onError;
  }

  /** Takes it in before anything is started. To be repeated where it fails. */
  async obey(host: StitchHost): Promise<void> {
    // More may come while they are read: the next heartbeat looks again.
    this.#words = 0;
    await this.#read(host);
    await this.#settleArrived(host);
  }

  /**
   * To be called with each heartbeat: obeys what a Master has decided while it took this node for dead. It is back, and may
   * have been before that was written.
   * @param words how many have been left, ever, as the heartbeat tells.
   */
  async beat(host: StitchHost, words: number): Promise<void> {
    const isDue = this.#steadyNowMs() - this.#lastSettledMs > SETTLE_MS;
    if (words !== this.#words || (isDue && this.#unreadable.size > 0)) {
      await this.#read(host);
      this.#words = words;
    }
    if (isDue) await this.#settleArrived(host);
  }

  /** Why this stitch must not be started: what a Master has decided about it cannot be read, and may be that it is elsewhere. */
  heldUp(stitch: string): string | null {
    return this.#unreadable.get(stitch)?.message ?? null;
  }

  async #read(host: StitchHost): Promise<void> {
    const before = this.#unreadable.size;
    const unreadable = new Map<string, UnreadableRecord>();
    const onUnreadable = (error: UnreadableRecord) => unreadable.set(splitFullId(error.id).stitch, error);
    const words = await this.#orders.words(onUnreadable);
    for (const [stitch, error] of unreadable) if (!this.#unreadable.has(stitch)) this.#onError(error);
    this.#unreadable = unreadable;
    host.obey(words);
    if (unreadable.size < before) host.resumeHeldUp();
  }

  /** Ends moves whose end this node was not there to hear of. */
  async #settleArrived(host: StitchHost): Promise<void> {
    this.#lastSettledMs = this.#steadyNowMs();
    const arriving = host.arriving();
    const ids = new Set(arriving.map(({ id }) => id));
    for (const id of this.#told) if (!ids.has(id)) this.#told.delete(id);
    await Promise.all(
      arriving.map(async ({ id, movedFrom, born }) => {
        const source = await this.#orders.traces(movedFrom).catch(
          // Another node's record that cannot be read must not keep this node from going on.
          passingOver((error) => this.#tell(id, error)),
        );
        if (source === null) return;
        const here = fullId(this.#node, id);
        const may = maySettle({ id: here, born }, source);
        if (may === "settles") host.settle(id, born);
        if (may === "unclear")
          this.#tell(
            id,
            new Error(
              `${here} has come from ${movedFrom}, which is gone, and nothing says that it has moved here: it was removed meanwhile. The job that moved it removes this one; if that job is gone too, remove ${here} yourself.`,
            ),
          );
      }),
    );
  }

  /** Once for each stitch: it is looked at again and again. */
  #tell(id: string, error: unknown): void {
    if (this.#told.has(id)) return;
    this.#told.add(id);
    this.#onError(error);
  }
}
