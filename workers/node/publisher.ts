import type { ClusterEvent } from "../../src/domain/event.ts";
import type { NodeStatus } from "../../src/domain/node.ts";
import type { RedisClient } from "../../src/redis/client.ts";
import { emitEvents } from "../../src/redis/events.ts";
import type { Keys } from "../../src/redis/keys.ts";
import { publishStitches, type StitchChange } from "../../src/redis/stitch-records.ts";

/** Longest that a change waits for others to go out with it: a step over a thousand stitches changes each of them three times. */
const GATHER_MS = 20;
/** Events kept while Redis is away; the oldest go first. */
const MAX_EVENTS = 1000;

/**
 * Publishes changes of a node's stitches, gathered for a moment, in order, one write at a time. Of each stitch the newest
 * goes out. While Redis is away they wait here; `flush` is tried again with each heartbeat.
 */
export class Publisher {
  readonly #redis: RedisClient;
  readonly #keys: Keys;
  readonly #node: string;
  readonly #status: () => NodeStatus;
  readonly #receives: (group: string) => boolean;
  readonly #holdsId: () => boolean;
  readonly #onError: (error: unknown) => void;
  #waiting = new Map<string, StitchChange>();
  #events: ClusterEvent[] = [];
  #running: Promise<boolean> | null = null;
  #gathering: NodeJS.Timeout | undefined;
  #muted = false;

  constructor(
    redis: RedisClient,
    keys: Keys,
    node: string,
    status: () => NodeStatus,
    receives: (group: string) => boolean,
    holdsId: () => boolean,
    onError: (error: unknown) => void,
  ) {
    this.#redis = redis;
    this.#keys = keys;
    this.#node = node;
    this.#status = status;
    this.#receives = receives;
    this.#holdsId = holdsId;
    this.#onError = onError;
  }

  /** Takes changes and events up; they go out soon, or with the next `flush`. */
  publish(changes: readonly StitchChange[], events: readonly ClusterEvent[]): void {
    if (this.#muted) return;
    this.#take(changes);
    this.#events.push(...events);
    if (this.#events.length > MAX_EVENTS) this.#events.splice(0, this.#events.length - MAX_EVENTS);
    this.#gathering ??= setTimeout(() => void this.flush(), GATHER_MS);
  }

  /** Publishes nothing more: the worker ends, or the node's records are another's now, and must not be overwritten. */
  mute(): void {
    this.#muted = true;
    clearTimeout(this.#gathering);
    this.#waiting.clear();
    this.#events = [];
  }

  /** Resolves when all that was taken up before the call is in Redis: true; or could not be written: false. Never rejects. */
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
    if (!this.#holdsId()) return false;
    this.#waiting = new Map();
    this.#events = [];
    try {
      if (changes.size > 0)
        await publishStitches(
          this.#redis,
          this.#keys,
          this.#node,
          [...changes.values()],
          this.#status(),
          this.#receives,
        );
      await emitEvents(this.#redis, this.#keys, events);
      return true;
    } catch (error) {
      const newer = this.#waiting;
      this.#waiting = changes;
      this.#take(newer.values());
      this.#events = [...events, ...this.#events].slice(-MAX_EVENTS);
      this.#onError(error);
      return false;
    }
  }

  #take(changes: Iterable<StitchChange>): void {
    for (const change of changes) {
      const before = this.#waiting.get(change.record.id);
      const isNew = change.kind === "set" && (change.isNew || (before?.kind === "set" && before.isNew));
      this.#waiting.set(change.record.id, change.kind === "set" ? { ...change, isNew } : change);
    }
  }
}
