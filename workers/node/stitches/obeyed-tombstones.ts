import type { Orders } from "../../../src/master/ports.ts";
import { fullId, splitFullId } from "../../../src/domain/names/ids.ts";
import { mayConfirmArrival } from "../../../src/domain/job/tombstone.ts";
import { passingOver, type UnreadableRecord } from "../../../src/redis/unreadable.ts";
import type { StitchHost } from "./stitch-host.ts";
import type { StitchRegistry } from "./stitch-registry.ts";

/** How often the node itself checks whether the moves of its arriving stitches can be confirmed, in case no Master does. */
const CONFIRM_EVERY_MS = 10_000;

type ObeyedTombstonesOptions = {
  readonly orders: Pick<Orders, "tombstones" | "traces">;
  readonly node: string;
  readonly host: Pick<StitchHost, "obey" | "resumeHeldUp" | "confirmArrival">;
  readonly registry: Pick<StitchRegistry, "arriving">;
  /** A monotonic clock. */
  readonly steadyNowMs: () => number;
  readonly onError: (error: unknown) => void;
};

/** Carries out what Masters decided about a node's stitches while it was away: removals by tombstone, and ends of moves. */
export class ObeyedTombstones {
  readonly #options: ObeyedTombstonesOptions;
  /** Arriving stitches whose move cannot be confirmed, as already reported. */
  readonly #reported = new Set<string>();
  /** Tombstones that cannot be read, by stitch. */
  #unreadable: ReadonlyMap<string, UnreadableRecord> = new Map();
  /** The number of tombstones ever written for the node, at the time of the last read. */
  #readCount = 0;
  #lastConfirmedMs = Number.NEGATIVE_INFINITY;

  constructor(options: ObeyedTombstonesOptions) {
    this.#options = options;
  }

  /** Call this before anything is started, and again if it fails. */
  async obey(): Promise<void> {
    // A Master may write more tombstones during the read. The zero makes the next heartbeat read again.
    this.#readCount = 0;
    await this.#read();
    await this.#confirmArrivals();
  }

  /**
   * Call this with each heartbeat: a Master may have written a tombstone while it took this node for dead, even shortly
   * after the node was back. @param count the number of tombstones ever written for the node, from the heartbeat's reply.
   */
  async beat(count: number): Promise<void> {
    const isDue = this.#options.steadyNowMs() - this.#lastConfirmedMs > CONFIRM_EVERY_MS;
    if (count !== this.#readCount || (isDue && this.#unreadable.size > 0)) {
      await this.#read();
      this.#readCount = count;
    }
    if (isDue) await this.#confirmArrivals();
  }

  /** Why this stitch must not start: its tombstone is unreadable, and may say that the stitch is elsewhere. null if it may. */
  heldUp(stitch: string): string | null {
    return this.#unreadable.get(stitch)?.message ?? null;
  }

  async #read(): Promise<void> {
    const { orders, host, onError } = this.#options;
    const before = this.#unreadable.size;
    const unreadable = new Map<string, UnreadableRecord>();
    const onUnreadable = (error: UnreadableRecord) => unreadable.set(splitFullId(error.id).stitch, error);
    const tombstones = await orders.tombstones(onUnreadable);
    for (const [stitch, error] of unreadable) if (!this.#unreadable.has(stitch)) onError(error);
    this.#unreadable = unreadable;
    host.obey(tombstones);
    if (unreadable.size < before) host.resumeHeldUp();
  }

  /** Confirms moves that ended while this node was away. */
  async #confirmArrivals(): Promise<void> {
    const { orders, node, host, registry, steadyNowMs } = this.#options;
    this.#lastConfirmedMs = steadyNowMs();
    const arriving = registry.arriving();
    const ids = new Set(arriving.map(({ id }) => id));
    for (const id of this.#reported) if (!ids.has(id)) this.#reported.delete(id);
    await Promise.all(
      arriving.map(async ({ id, movedFrom, born }) => {
        const source = await orders.traces(movedFrom).catch(
          // An unreadable record of another node must not stop this node.
          passingOver((error) => this.#report(id, error)),
        );
        if (source === null) return;
        const here = fullId(node, id);
        const may = mayConfirmArrival({ id: here, born }, source);
        if (may === "yes") host.confirmArrival(id, born);
        if (may === "unclear")
          this.#report(
            id,
            new Error(
              `${here} has come from ${movedFrom}, which is gone, and nothing says that it has moved here: it was removed meanwhile. The job that moved it removes this one; if that job is gone too, remove ${here} yourself.`,
            ),
          );
      }),
    );
  }

  /** Reports once for each stitch, because each stitch is checked again and again. */
  #report(id: string, error: unknown): void {
    if (this.#reported.has(id)) return;
    this.#reported.add(id);
    this.#options.onError(error);
  }
}
