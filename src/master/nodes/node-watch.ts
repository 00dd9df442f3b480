import { type Pulse, pulseAfter, standsStillMs } from "../../domain/node/pulse.ts";
import type { ClusterEvent } from "../../domain/event.ts";
import type { RedisClient } from "../../redis/connection/client.ts";
import { emitEvents } from "../../redis/events.ts";
import type { Keys } from "../../redis/keys.ts";
import { noteSilence, readLapsed, readSilent, type SilentNode } from "../../redis/node/silent-nodes.ts";

/** Longest time between two looks. */
const MOST_BETWEEN_MS = 1000;
/** Nodes that one look reads at most: when half of a large cluster falls silent, the rest waits for the next looks. */
const MOST_READ = 500;

export type NodeWatchOptions = {
  readonly redis: RedisClient;
  readonly keys: Keys;
  /** Of the nodes. */
  readonly heartbeatMs: number;
  readonly leaseMs: number;
  /** A monotonic clock. */
  readonly steadyNowMs: () => number;
};

/** A silent node as it was when it was read, and since when. What is noted of it later holds only if it has not moved since. */
type Standing = { readonly node: SilentNode; readonly sinceMs: number; isSuspect: boolean };

/**
 * Notices nodes that fall silent: notes them as suspect when their lease has run out, declares them dead when they have stood still
 * for long enough, and tells of each once, however many Masters watch. A lease that ran out while this Master could not read Redis
 * proves nothing: after a break of its pulse, every node has a fresh lease. A look costs one round trip, whatever the number of live
 * nodes. A node that is silent is read twice and noted twice, and then costs nothing.
 */
export class NodeWatch {
  readonly #options: NodeWatchOptions;
  /** By replication id: each shard of a Redis Cluster has its own. */
  readonly #pulses = new Map<string, Pulse>();
  readonly #standing = new Map<string, Standing>();
  /** Nodes that need no more, with the end of their lease in the index: until that changes. */
  readonly #done = new Map<string, string>();

  constructor(options: NodeWatchOptions) {
    this.#options = options;
  }

  /** Looks once. @returns in how many ms to look again. @throws the connection's error: then the pulse is broken. */
  async look(): Promise<number> {
    try {
      await this.#look();
    } catch (error) {
      this.rest();
      throw error;
    }
    return Math.min(MOST_BETWEEN_MS, this.#options.heartbeatMs / 2);
  }

  /** Does not look for a while: then it begins anew. */
  rest(): void {
    this.#pulses.clear();
    this.#standing.clear();
  }

  async #look(): Promise<void> {
    const { redis, keys } = this.#options;
    const { lapsed, look } = await readLapsed(redis, keys);
    this.#feel(look);
    for (const map of [this.#standing, this.#done]) for (const id of map.keys()) if (!lapsed.has(id)) map.delete(id);
    const unknown = [...lapsed]
      .filter(([id, end]) => !this.#standing.has(id) && this.#done.get(id) !== end)
      .map(([id]) => id)
      .slice(0, MOST_READ);
    for (const node of await readSilent(redis, keys, [...unknown, ...this.#oneOfEachOtherShard(look.replid)])) {
      this.#feel(node.look);
      this.#take(node, lapsed.get(node.id) ?? "");
    }
    await this.#note(
      "suspect",
      this.#calm().filter(({ isSuspect }) => !isSuspect),
    );
    const overMs = this.#options.steadyNowMs() - standsStillMs(this.#options.heartbeatMs);
    await this.#note(
      "dead",
      this.#calm().filter(({ sinceMs }) => sinceMs <= overMs),
    );
  }

  /** The index tells of its own shard alone. The pulse of another one goes on as long as a node there is read. */
  #oneOfEachOtherShard(replid: string): string[] {
    const ids = new Map([...this.#standing.values()].map(({ node }) => [node.look.replid, node.id]));
    ids.delete(replid);
    return [...ids.values()];
  }

  #feel(look: SilentNode["look"]): void {
    const { heartbeatMs, steadyNowMs } = this.#options;
    const before = this.#pulses.get(look.replid) ?? null;
    this.#pulses.set(look.replid, pulseAfter(before, { ...look, steadyMs: steadyNowMs() }, heartbeatMs));
  }

  #take(node: SilentNode, leaseEnd: string): void {
    const before = this.#standing.get(node.id)?.node;
    const isSame = before?.incarnation === node.incarnation && before.beats === node.beats;
    if (!node.isSilent || node.isDead) {
      this.#standing.delete(node.id);
      if (node.isDead) this.#done.set(node.id, leaseEnd);
    } else if (!isSame || before.look.replid !== node.look.replid)
      this.#standing.set(node.id, { node, sinceMs: this.#options.steadyNowMs(), isSuspect: node.isSuspect });
  }

  /** Those whose shard was read for a whole lease without a break: so their lease ran out by itself. */
  #calm(): Standing[] {
    const calmSinceMs = this.#options.steadyNowMs() - this.#options.leaseMs;
    return [...this.#standing.values()].filter(
      ({ node }) => (this.#pulses.get(node.look.replid)?.sinceMs ?? Number.POSITIVE_INFINITY) <= calmSinceMs,
    );
  }

  async #note(as: "suspect" | "dead", all: readonly Standing[]): Promise<void> {
    const { redis, keys } = this.#options;
    const some = all.slice(0, MOST_READ);
    const isNew = await Promise.all(some.map(({ node }) => noteSilence(redis, keys, as, node)));
    // Another Master was first, or the node has moved: the next look reads it.
    for (const standing of some)
      if (as === "dead") this.#standing.delete(standing.node.id);
      else standing.isSuspect = true;
    const events = some
      .filter((_, index) => isNew[index])
      .map(
        ({ node: { id, incarnation } }): ClusterEvent => ({
          type: `node.${as}`,
          node: id,
          data: { incarnation: Number(incarnation) },
        }),
      );
    if (events.length > 0) await emitEvents(redis, keys, events);
  }
}
