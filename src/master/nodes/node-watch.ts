import { type Pulse, pulseAfter, standsStillMs } from "../../domain/node/pulse.ts";
import type { ClusterEvent } from "../../domain/event.ts";
import type { RedisClient } from "../../redis/connection/client.ts";
import { emitEvents } from "../../redis/events.ts";
import type { Keys } from "../../redis/keys.ts";
import { noteSilence, readLapsed, readSilent, type SilentNode } from "../../redis/node/silent-nodes.ts";

/** Longest time between two looks. */
const MOST_BETWEEN_MS = 1000;

export type NodeWatchOptions = {
  readonly redis: RedisClient;
  readonly keys: Keys;
  /** Of the nodes. */
  readonly heartbeatMs: number;
  readonly leaseMs: number;
  /** A monotonic clock. */
  readonly steadyNowMs: () => number;
};

/** A silent node as it was when it was first seen so, and since when it has not moved. */
type Standing = { readonly node: SilentNode; readonly sinceMs: number };

/**
 * Notices nodes that fall silent: notes them as suspect when their lease has run out, declares them dead when they have stood still
 * for long enough, and tells of each once, however many Masters watch. A lease that ran out while this Master could not read Redis
 * proves nothing: after a break of its pulse, every node has a fresh lease. A look costs one round trip, whatever the number of live
 * nodes; while nodes are silent, one or two more.
 */
export class NodeWatch {
  readonly #options: NodeWatchOptions;
  /** By replication id: each shard of a Redis Cluster has its own. */
  readonly #pulses = new Map<string, Pulse>();
  readonly #standing = new Map<string, Standing>();
  /** Nodes that are declared dead, with the end of their lease in the index: they need no look until that changes. */
  readonly #declared = new Map<string, string>();

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
    this.#read(look);
    for (const map of [this.#standing, this.#declared])
      for (const id of map.keys()) if (!lapsed.has(id)) map.delete(id);
    const ids = [...lapsed].filter(([id, end]) => this.#declared.get(id) !== end).map(([id]) => id);
    if (ids.length === 0) return;
    const nodes = await readSilent(redis, keys, ids);
    for (const { look: seen } of nodes) this.#read(seen);
    for (const node of nodes) if (node.isDead) this.#declared.set(node.id, lapsed.get(node.id) ?? "");
    const silent = nodes.filter((node) => this.#stands(node));
    await this.#note(
      "suspect",
      silent.filter(({ isSuspect }) => !isSuspect),
    );
    await this.#note(
      "dead",
      silent.filter((node) => this.#isOver(node)),
    );
  }

  #read(look: SilentNode["look"]): void {
    const { heartbeatMs, steadyNowMs } = this.#options;
    const before = this.#pulses.get(look.replid) ?? null;
    this.#pulses.set(look.replid, pulseAfter(before, { ...look, steadyMs: steadyNowMs() }, heartbeatMs));
  }

  /** Is it silent, and does the pulse go back far enough to say so? Remembers since when. */
  #stands(node: SilentNode): boolean {
    const { leaseMs, steadyNowMs } = this.#options;
    if (!node.isSilent || node.isDead) {
      this.#standing.delete(node.id);
      return false;
    }
    const nowMs = steadyNowMs();
    const pulse = this.#pulses.get(node.look.replid);
    if (pulse === undefined || nowMs - pulse.sinceMs < leaseMs) return false;
    const before = this.#standing.get(node.id);
    const { incarnation, beats, look } = before?.node ?? {};
    const isSame = incarnation === node.incarnation && beats === node.beats && look?.replid === node.look.replid;
    if (!isSame || before === undefined || before.sinceMs < pulse.sinceMs)
      this.#standing.set(node.id, { node, sinceMs: nowMs });
    return true;
  }

  #isOver({ id }: SilentNode): boolean {
    const standing = this.#standing.get(id);
    const { heartbeatMs, steadyNowMs } = this.#options;
    return standing !== undefined && steadyNowMs() - standing.sinceMs >= standsStillMs(heartbeatMs);
  }

  async #note(as: "suspect" | "dead", nodes: readonly SilentNode[]): Promise<void> {
    const { redis, keys } = this.#options;
    const isNew = await Promise.all(nodes.map((node) => noteSilence(redis, keys, as, node)));
    const events = nodes
      .filter((_, index) => isNew[index])
      .map(
        ({ id, incarnation }): ClusterEvent => ({
          type: `node.${as}`,
          node: id,
          data: { incarnation: Number(incarnation) },
        }),
      );
    if (events.length > 0) await emitEvents(redis, keys, events);
  }
}
