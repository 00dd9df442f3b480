import type { ClusterEvent } from "../../../src/domain/event.ts";
import type { NodeStatus } from "../../../src/domain/node/node.ts";
import type { Publishing } from "../../../src/master/ports.ts";
import type { StitchChange } from "../../../src/redis/stitch/stitch-records.ts";

/** Longest that a change waits for others to go out with it: a step over a thousand stitches changes each of them three times. */
const GATHER_MS = 20;
/** Events kept while Redis is away; the oldest go first. */
const MAX_EVENTS = 1000;
/** In this time the pointers of every stitch are written again, a few with each heartbeat: half of what is promised. */
const POINTERS_MS = 300_000;

type PublisherOptions = {
  readonly publishing: Pick<Publishing, "publish" | "assertPointers" | "emit">;
  readonly status: () => NodeStatus;
  readonly receives: (group: string) => boolean;
  /** What a stitch is by now, or what is left of it; null where nothing is. */
  readonly changeOf: (stitch: string) => StitchChange | null;
  readonly holdsId: () => boolean;
  readonly onError: (error: unknown) => void;
};

/**
 * Publishes changes of a node's stitches, gathered for a moment, in order, one write at a time. Of each stitch the newest
 * goes out. While Redis is away they wait here; `flush` is tried again with each heartbeat.
 *
 * Every write has a number, which Redis keeps beside it. Where Redis shows a lower one than it had before (a failover has
 * lost writes), what was published since is published again.
 *
 *   held ──open──▶ open ──hold──▶ held      mute ends both for good
 */
export class Publisher {
  readonly #options: PublisherOptions;
  #waiting = new Map<string, StitchChange>();
  #events: ClusterEvent[] = [];
  /** By stitch: the number under which it was last published, in this incarnation. */
  #numbers = new Map<string, number>();
  #incarnation = 0;
  #known = 0;
  #drawn = 0;
  #held = true;
  #running: Promise<boolean> | null = null;
  #emitting = false;
  #gathering: NodeJS.Timeout | undefined;
  #muted = false;
  /** Stitches whose pointers are still to be written again in this round, and how many there were. */
  #due: string[] = [];
  #round = 0;

  constructor(options: PublisherOptions) {
    this.#options = options;
  }

  /** Takes changes and events up; they go out soon, or with the next `flush`. */
  publish(changes: readonly StitchChange[], events: readonly ClusterEvent[]): void {
    if (this.#muted) return;
    this.#take(changes);
    this.#events.push(...events);
    if (this.#events.length > MAX_EVENTS) this.#events.splice(0, this.#events.length - MAX_EVENTS);
    this.#gathering ??= setTimeout(() => void this.flush(), GATHER_MS);
  }

  /** Publishes nothing until `open`: what Redis holds is another incarnation's, or older than this node. Safe to repeat. */
  hold(): void {
    this.#held = true;
  }

  /** What is published from now on is a new incarnation's, of which Redis has nothing yet. */
  begin(incarnation: number): void {
    this.#incarnation = incarnation;
    this.#known = 0;
    this.#drawn = 0;
    this.#numbers = new Map();
  }

  /** Publishes again: the node knows by now what Redis has. Safe to repeat. */
  open(): void {
    this.#held = false;
  }

  /** The number of the last publication that Redis is known to have. */
  get known(): number {
    return this.#known;
  }

  /**
   * A heartbeat has told which publication is the last that Redis has.
   * @param knownBefore what was known to be there when the heartbeat was sent.
   */
  heard(published: number, knownBefore: number): void {
    if (published < knownBefore) this.#publishAgain(published);
  }

  #publishAgain(after: number): void {
    this.#known = Math.min(this.#known, after);
    const lost = [...this.#numbers].filter(([, number]) => number > after).map(([id]) => id);
    for (const id of lost) {
      this.#numbers.delete(id);
      const change = this.#waiting.has(id) ? null : this.#options.changeOf(id);
      if (change !== null) this.#waiting.set(id, change);
    }
    this.#options.onError(
      new Error(`Redis has lost what was published last; publishing ${lost.length} stitches again`),
    );
  }

  /**
   * Puts the pointers of some stitches right again, all of them in turn. To be called with each heartbeat, which it
   * accompanies.
   * @param ids of all stitches, and of the removed ones; asked for once a round.
   */
  async assertPointers(ids: () => string[], heartbeatMs: number): Promise<void> {
    if (this.#held || this.#muted || !this.#options.holdsId()) return;
    if (this.#due.length === 0) {
      this.#due = ids();
      this.#round = this.#due.length;
    }
    const next = this.#due.splice(0, Math.ceil((this.#round * heartbeatMs) / POINTERS_MS));
    const { publishing, receives, changeOf } = this.#options;
    const stitches = next.flatMap((id) => changeOf(id) ?? []);
    await publishing.assertPointers(stitches, receives);
  }

  /** Of these stitches nothing is left. */
  forget(ids: readonly string[]): void {
    for (const id of ids) this.#numbers.delete(id);
  }

  /** Publishes nothing more: the worker ends, or the node's records are another's now, and must not be overwritten. */
  mute(): void {
    this.#muted = true;
    clearTimeout(this.#gathering);
    this.#waiting.clear();
    this.#events = [];
  }

  /**
   * Resolves when all that was taken up of stitches before the call is in Redis, and what happened is on its way there: true;
   * or could not be written: false. Never rejects.
   */
  async flush(): Promise<boolean> {
    // What runs may have begun before the latest change: wait for it, then for one more.
    if (this.#running !== null) await this.#running;
    this.#running ??= this.#write().finally(() => {
      this.#running = null;
    });
    return this.#running;
  }

  async #write(): Promise<boolean> {
    clearTimeout(this.#gathering);
    this.#gathering = undefined;
    const changes = this.#waiting;
    const events = this.#events;
    if (changes.size === 0 && events.length === 0) return true;
    // After a pause longer than the lease another worker may have the id: nothing is written until a heartbeat has told.
    if (this.#held || !this.#options.holdsId()) return false;
    this.#waiting = new Map();
    this.#events = [];
    try {
      if (changes.size > 0 && !(await this.#writeChanges(changes))) {
        this.#putBack(changes, events);
        return false;
      }
    } catch (error) {
      this.#putBack(changes, events);
      this.#options.onError(error);
      return false;
    }
    this.#emit(events);
    return true;
  }

  /**
   * Not waited for: they are in another slot, and what can be read of the stitches is there, whatever becomes of them. What
   * comes while some are on their way goes out behind them.
   */
  #emit(events: readonly ClusterEvent[]): void {
    if (events.length === 0) return;
    if (this.#emitting) {
      this.#putBack(new Map(), events);
      return;
    }
    this.#emitting = true;
    this.#options.publishing
      .emit(events)
      .catch((error: unknown) => {
        this.#putBack(new Map(), events);
        this.#options.onError(error);
      })
      .finally(() => {
        this.#emitting = false;
        if (this.#events.length > 0 && !this.#muted) this.#gathering ??= setTimeout(() => void this.flush(), GATHER_MS);
      });
  }

  /** @returns false where they are to be written again, by a later call. */
  async #writeChanges(changes: ReadonlyMap<string, StitchChange>): Promise<boolean> {
    const incarnation = this.#incarnation;
    const { publishing, status, receives } = this.#options;
    const known = this.#known;
    const published = await publishing.publish([...changes.values()], status(), receives, {
      incarnation,
      known,
      draw: () => (this.#drawn += 1),
    });
    // A new incarnation has begun meanwhile, and publishes everything.
    if (incarnation !== this.#incarnation) return false;
    if (published.kind === "ok") {
      this.#known = published.number;
      for (const id of changes.keys()) this.#numbers.set(id, published.number);
      return true;
    }
    // The next heartbeat finds out whose it is.
    if (published.kind === "other") this.#held = true;
    else this.#publishAgain(published.number);
    return false;
  }

  #putBack(changes: Map<string, StitchChange>, events: readonly ClusterEvent[]): void {
    if (this.#muted) return;
    const newer = this.#waiting;
    this.#waiting = changes;
    this.#take(newer.values());
    this.#events = [...events, ...this.#events].slice(-MAX_EVENTS);
  }

  #take(changes: Iterable<StitchChange>): void {
    for (const change of changes) {
      const before = this.#waiting.get(change.record.id);
      const isNew = change.isNew || (before?.kind === change.kind && before.isNew);
      this.#waiting.set(change.record.id, { ...change, isNew });
    }
  }
}
