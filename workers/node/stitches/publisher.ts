import type { ClusterEvent } from "../../../src/domain/event.ts";
import type { NodeStatus } from "../../../src/domain/node/node.ts";
import type { Publishing } from "../../../src/master/ports.ts";
import type { StitchChange } from "../../../src/redis/stitch/stitch-records.ts";

/**
 * Longest time that a change waits for others to be published with it:
 * a command on a thousand stitches changes each of them three times.
 */
const GATHER_MS = 20;
/** Events kept while Redis is away; the oldest are dropped first. */
const MAX_EVENTS = 1000;
/** The pointers of every stitch are written again within this time, a few with each heartbeat: half of what is promised. */
const POINTERS_MS = 300_000;

type PublisherOptions = {
  readonly publishing: Pick<Publishing, "publish" | "assertPointers" | "emit">;
  readonly status: () => NodeStatus;
  readonly receives: (group: string) => boolean;
  /** The current record of a stitch, or its removed record; null if there is neither. */
  readonly changeOf: (stitch: string) => StitchChange | null;
  readonly holdsId: () => boolean;
  readonly onError: (error: unknown) => void;
};

/**
 * Publishes changes of a node's stitches: gathered for a moment, in order, one write at a time, only the newest of each
 * stitch. While Redis is away they wait here; `flush` is tried again with each heartbeat.
 *
 * Every write has a number, which Redis keeps with it. If Redis shows a lower number than before (a failover has lost
 * writes), the changes published after that number are published again.
 *
 *   held ──open──▶ open ──hold──▶ held      mute ends both for good
 */
export class Publisher {
  readonly #options: PublisherOptions;
  #waiting = new Map<string, StitchChange>();
  #events: ClusterEvent[] = [];
  /** The number of each stitch's last publication in this incarnation, by stitch. */
  #numbers = new Map<string, number>();
  #incarnation = 0;
  #known = 0;
  #drawn = 0;
  #held = true;
  #running: Promise<boolean> | null = null;
  #emitting = false;
  #gathering: NodeJS.Timeout | undefined;
  #muted = false;
  /** Stitches whose pointers are still to be written in this round, and the number of stitches at its beginning. */
  #due: string[] = [];
  #round = 0;

  constructor(options: PublisherOptions) {
    this.#options = options;
  }

  /** Takes changes and events. They are published soon, or with the next `flush`. */
  publish(changes: readonly StitchChange[], events: readonly ClusterEvent[]): void {
    if (this.#muted) return;
    this.#take(changes);
    this.#events.push(...events);
    if (this.#events.length > MAX_EVENTS) this.#events.splice(0, this.#events.length - MAX_EVENTS);
    this.#gathering ??= setTimeout(() => void this.flush(), GATHER_MS);
  }

  /**
   * Publishes nothing until `open`, because Redis holds records of
   * another incarnation, or older ones than this node. Safe to repeat.
   */
  hold(): void {
    this.#held = true;
  }

  /** Begins a new incarnation. Redis has no publication of it yet. */
  begin(incarnation: number): void {
    this.#incarnation = incarnation;
    this.#known = 0;
    this.#drawn = 0;
    this.#numbers = new Map();
  }

  /** Publishes again, because the node knows now what Redis has. Safe to repeat. */
  open(): void {
    this.#held = false;
  }

  /** The number of the last publication that Redis is known to have. */
  get known(): number {
    return this.#known;
  }

  /**
   * Takes the number of the last publication that Redis has, from a heartbeat's reply.
   * @param knownBefore the last publication that Redis was known to have when the heartbeat was sent.
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
   * Writes the pointers of some stitches again; repeated calls write those
   * of all stitches in turn. Call this together with each heartbeat.
   * @param ids returns the ids of all stitches and of the removed ones; called once a round.
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

  /** Forgets stitches that were removed and whose removed records are deleted. */
  forget(ids: readonly string[]): void {
    for (const id of ids) this.#numbers.delete(id);
  }

  /**
   * Publishes nothing more: the worker ends, or another worker
   * has the node's records now, and they must not be overwritten.
   */
  mute(): void {
    this.#muted = true;
    clearTimeout(this.#gathering);
    this.#waiting.clear();
    this.#events = [];
  }

  /**
   * Resolves with true when all changes taken before the call are in Redis and the events are on their way; with false if
   * they could not be written. Never rejects.
   */
  async flush(): Promise<boolean> {
    // The running write may have begun before the latest change: wait for it, then for one more.
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
    // After a pause longer than the lease, another worker may have the
    // id. So nothing is written until a heartbeat has renewed the lease.
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
   * Sends events without waiting for them: they are in another slot, and the stitches' records are in Redis already,
   * whatever happens to the events. Events that come during a send are sent after it.
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

  /** @returns false if a later call must write the changes again. */
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
    // The next heartbeat finds out who has the id.
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
