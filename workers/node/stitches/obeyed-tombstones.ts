import type { Orders } from "../../../src/master/ports.ts";
import { fullId, splitFullId } from "../../../src/domain/names/ids.ts";
import { mayConfirmArrival } from "../../../src/domain/job/tombstone.ts";
import { passingOver, type UnreadableRecord } from "../../../src/redis/unreadable.ts";
import type { StitchHost } from "./stitch-host.ts";
import type { StitchRegistry } from "./stitch-registry.ts";

/** How often the node itself looks whether the moves of its arriving stitches can be confirmed, in case no Master does. */
const CONFIRM_EVERY_MS = 10_000;

type ObeyedTombstonesOptions = {
  readonly orders: Pick<Orders, "tombstones" | "traces">;
  readonly node: string;
  readonly host: Pick<StitchHost, "obey" | "resumeHeldUp" | "confirmArrival">;
  readonly registry: Pick<StitchRegistry, "arriving">;
  /** A clock that nobody sets. */
  readonly steadyNowMs: () => number;
  readonly onError: (error: unknown) => void;
};

/** Carries out what Masters have decided about a node's stitches while it was away: removals by tombstone, and the ends of moves. */
export class ObeyedTombstones {
  readonly #options: ObeyedTombstonesOptions;
  /** Arriving stitches of which was reported that their move cannot be confirmed. */
  readonly #reported = new Set<string>();
  /** By stitch: a tombstone that cannot be read. */
  #unreadable: ReadonlyMap<string, UnreadableRecord> = new Map();
  /** How many tombstones had ever been left when they were last read. */
  #readCount = 0;
  #lastConfirmedMs = Number.NEGATIVE_INFINITY;

  constructor(options: ObeyedTombstonesOptions) {
    this.#options = options;
  }

  /** To be called before anything is started, and repeated where it fails. */
  async obey(): Promise<void> {
    // More may be left while they are read: the next heartbeat reads again.
    this.#readCount = 0;
    await this.#read();
    await this.#confirmArrivals();
  }

  /**
   * To be called with each heartbeat: a Master may have left a tombstone while it took this node for dead, also shortly after the
   * node was back. @param count how many tombstones have ever been left, as the heartbeat tells.
   */
  async beat(count: number): Promise<void> {
    const isDue = this.#options.steadyNowMs() - this.#lastConfirmedMs > CONFIRM_EVERY_MS;
    if (count !== this.#readCount || (isDue && this.#unreadable.size > 0)) {
      await this.#read();
      this.#readCount = count;
    }
    if (isDue) await this.#confirmArrivals();
  }

  /** Why this stitch must not be started: its tombstone cannot be read, and may say that it is elsewhere. Else null. */
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

  /** Confirms moves whose end this node was not there to hear of. */
  async #confirmArrivals(): Promise<void> {
    const { orders, node, host, registry, steadyNowMs } = this.#options;
    this.#lastConfirmedMs = steadyNowMs();
    const arriving = registry.arriving();
    const ids = new Set(arriving.map(({ id }) => id));
    for (const id of this.#reported) if (!ids.has(id)) this.#reported.delete(id);
    await Promise.all(
      arriving.map(async ({ id, movedFrom, born }) => {
        const source = await orders.traces(movedFrom).catch(
          // Another node's record that cannot be read must not keep this node from going on.
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

  /** Once for each stitch: it is looked at again and again. */
  #report(id: string, error: unknown): void {
    if (this.#reported.has(id)) return;
    this.#reported.add(id);
    this.#options.onError(error);
  }
}
