import { type ErrorCode, RequestError } from "../../src/domain/errors.ts";
import { parseStitchRef } from "../../src/domain/ids.ts";
import type { Message } from "../../src/domain/message.ts";
import type { RedisClient } from "../../src/redis/client.ts";
import { putMessages } from "../../src/redis/inbox.ts";
import type { Keys } from "../../src/redis/keys.ts";
import { nodesOfGroup } from "../../src/redis/routes.ts";
import { locateStitch } from "../../src/redis/stitch-records.ts";
import { pause } from "./pause.ts";

/** Messages, and characters of them, that go to one node in one call of Redis. */
const MOST_AT_ONCE = 500;
const MOST_CHARACTERS = 4 * 1024 * 1024;
/** How soon a full inbox, or a Redis that is away, is tried again. */
const RETRY_MS = 200;
/** How long a route is believed. A stale one costs a hop: the node it leads to passes the message on. */
const ROUTE_MS = 5000;
const MOST_ROUTES = 10_000;

export type OutboxOptions = {
  readonly redis: RedisClient;
  readonly keys: Keys;
  readonly node: string;
  /** Has this node a stitch with this bare id? */
  readonly isHere: (stitch: string) => boolean;
  readonly nowMs: () => number;
  readonly onError: (error: unknown) => void;
};

/** Whom a stitch sends to: a stitch by its bare or full id, or a group. */
export type SendTo = { readonly stitch: string } | { readonly group: string };

type Parcel = {
  readonly stitch: string;
  readonly body: string;
  readonly stored: PromiseWithResolvers<void>;
  readonly onFull: (() => void) | null;
  toldFull: boolean;
};

/**
 * Sends what the stitches of a node have to say. A message is sent when it is stored in the inboxes of its recipients'
 * nodes; until there is room for it, it waits here, and its sender with it. What goes to one node goes in batches, one at a
 * time, so that messages of one sender to one stitch keep their order.
 */
export class Outbox {
  readonly #o: OutboxOptions;
  readonly #lanes = new Map<string, Parcel[]>();
  readonly #routes = new Map<string, { readonly ids: Promise<string[]>; readonly untilMs: number }>();
  readonly #stopping = new AbortController();

  constructor(options: OutboxOptions) {
    this.#o = options;
  }

  /** Gives up what waits: it was not stored, and its senders are ending. Safe to repeat. */
  stop(): void {
    this.#stopping.abort();
  }

  /**
   * Sends a message. Resolves when it is stored; that may take as long as its recipient's inbox is full (`onFull` is told
   * once). @throws RequestError `no_recipient`, `ambiguous_stitch`, `shutting_down`.
   */
  async send(to: SendTo, message: Omit<Message, "to">, onFull: (() => void) | null = null): Promise<void> {
    if ("group" in to) {
      const nodes = await nodesOfGroup(this.#o.redis, this.#o.keys, to.group);
      if (nodes.length === 0) throw refused("no_recipient", `no stitch of the group ${to.group} takes messages`);
      await Promise.all(nodes.map((node) => this.#post(node, { ...message, to: { group: to.group } }, "", onFull)));
      return;
    }
    const { node, stitch } = await this.#addressOf(to.stitch);
    await this.#post(node, { ...message, to: { stitch } }, stitch, onFull);
  }

  async #addressOf(ref: string): Promise<{ node: string; stitch: string }> {
    const parsed = parseStitchRef(ref);
    if (parsed === null) throw refused("no_recipient", `"${ref.slice(0, 200)}" is not a stitch's id`);
    if (parsed.node !== null) return { node: parsed.node, stitch: parsed.stitch };
    // A bare id: this node first, then anywhere if it is unambiguous.
    if (this.#o.isHere(parsed.stitch)) return { node: this.#o.node, stitch: parsed.stitch };
    const [only, ...others] = await this.#route(parsed.stitch);
    if (only === undefined) throw refused("no_recipient", `there is no stitch "${ref}"`);
    if (others.length > 0)
      throw refused("ambiguous_stitch", `several nodes have a stitch "${ref}": ${[only, ...others].join(", ")}`);
    return { node: parseStitchRef(only)?.node ?? "", stitch: parsed.stitch };
  }

  async #route(stitch: string): Promise<string[]> {
    const nowMs = this.#o.nowMs();
    const known = this.#routes.get(stitch);
    if (known !== undefined && nowMs < known.untilMs) return known.ids;
    if (this.#routes.size >= MOST_ROUTES) this.#routes.clear();
    const ids = locateStitch(this.#o.redis, this.#o.keys, stitch);
    this.#routes.set(stitch, { ids, untilMs: nowMs + ROUTE_MS });
    try {
      const found = await ids;
      // One that is made in a moment must not be missing for seconds.
      if (found.length !== 1) this.#routes.delete(stitch);
      return found;
    } catch (error) {
      this.#routes.delete(stitch);
      throw error;
    }
  }

  #post(node: string, message: Message, stitch: string, onFull: (() => void) | null): Promise<void> {
    if (this.#stopping.signal.aborted) return Promise.reject(refused("shutting_down", "this node is leaving"));
    const parcel: Parcel = {
      stitch,
      body: JSON.stringify(message),
      stored: Promise.withResolvers(),
      onFull,
      toldFull: false,
    };
    const lane = this.#lanes.get(node);
    if (lane === undefined) {
      const opened = [parcel];
      this.#lanes.set(node, opened);
      this.#carry(node, opened).catch(this.#o.onError);
    } else lane.push(parcel);
    return parcel.stored.promise;
  }

  /** Carries what waits for one node until nothing does. */
  async #carry(node: string, lane: Parcel[]): Promise<void> {
    const { signal } = this.#stopping;
    // What is sent in the same turn goes together.
    await new Promise((resolve) => setImmediate(resolve));
    while (lane.length > 0) {
      if (signal.aborted) {
        for (const { stored } of lane) stored.reject(refused("shutting_down", "this node is leaving"));
        break;
      }
      const batch = nextBatch(lane);
      const placed = await putMessages(this.#o.redis, this.#o.keys, node, batch).catch((error: unknown) => {
        this.#o.onError(error);
        return [];
      });
      const left = batch.filter((parcel, index) => {
        if (placed[index] === true) parcel.stored.resolve();
        else if (placed[index] === false && !parcel.toldFull) {
          parcel.toldFull = true;
          parcel.onFull?.();
        }
        return placed[index] !== true;
      });
      // Those without room go to the end: they wait for their stitch, and nobody else does. Among themselves they keep
      // their order, and nothing of the same sender is behind them that they would fall behind of (see `later`).
      lane.splice(0, batch.length);
      if (left.length > 0) {
        const stitches = new Set(left.map(({ stitch }) => stitch));
        const later = lane.filter(({ stitch }) => stitches.has(stitch));
        const others = lane.filter(({ stitch }) => !stitches.has(stitch));
        lane.splice(0, lane.length, ...others, ...left, ...later);
        if (left.length === batch.length || others.length === 0) await pause(RETRY_MS, signal);
      }
    }
    this.#lanes.delete(node);
  }
}

function nextBatch(lane: readonly Parcel[]): Parcel[] {
  let characters = 0;
  const batch: Parcel[] = [];
  for (const parcel of lane) {
    characters += parcel.body.length;
    if (batch.length === MOST_AT_ONCE || (batch.length > 0 && characters > MOST_CHARACTERS)) break;
    batch.push(parcel);
  }
  return batch;
}

const refused = (code: ErrorCode, detail: string) => new RequestError(code, detail);
