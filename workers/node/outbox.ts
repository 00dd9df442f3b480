import { type ErrorCode, RequestError } from "../../src/domain/errors.ts";
import { parseStitchRef, splitFullId } from "../../src/domain/ids.ts";
import type { Message } from "../../src/domain/message.ts";
import type { RedisClient } from "../../src/redis/client.ts";
import { type Placed, putMessages } from "../../src/redis/inbox.ts";
import type { Keys } from "../../src/redis/keys.ts";
import { nodesOfGroup } from "../../src/redis/routes.ts";
import { locateStitch } from "../../src/redis/stitch-records.ts";
import { Lane, type Parcel } from "./lane.ts";
import { pause } from "./pause.ts";

/** How soon a full inbox, or a Redis that is away, is tried again. */
const RETRY_MS = 200;
/** How long a route is believed. A stale one costs a hop: the node it leads to sends the message on. */
export const ROUTE_MS = 5000;
const MOST_ROUTES = 10_000;

export type OutboxOptions = {
  readonly redis: RedisClient;
  /** In the role `direct`: what is sent waits for nothing else that the node has to do with Redis. */
  readonly direct: RedisClient;
  readonly keys: Keys;
  readonly node: string;
  /** Does this bare id mean a stitch of this node? One that is only arriving it does not mean. */
  readonly isHere: (stitch: string) => boolean;
  readonly nowMs: () => number;
  readonly onError: (error: unknown) => void;
};

/** Whom a stitch sends to: a stitch by its bare or full id, or a group. */
export type SendTo = { readonly stitch: string } | { readonly group: string };

/** What happens while there is no room for a message. */
export type WhenFull = {
  /** Told once. */
  readonly onFull?: () => void;
  /** Given up (`inbox_full`) where there is none by then; without it, it waits as long as it takes. */
  readonly untilMs?: number;
};

/** Where a message goes: a node, and the stitch it is for there, or "" for several. */
type Place = {
  readonly node: string;
  readonly stitch: string;
  readonly addressed: Pick<Message, "to" | "bare">;
};

type Sending = Parcel & {
  readonly stored: PromiseWithResolvers<void>;
  readonly when: WhenFull;
  toldFull: boolean;
};

/**
 * Sends what the stitches of a node have to say. A message is sent when it is stored in the inboxes of its recipients'
 * nodes; until there is room for it, it waits here, and its sender with it. What goes to one node goes in batches, one at a
 * time, and what one sender says goes out in the order it was said, however long it takes to find whom it is for: so
 * messages of one sender to one stitch keep their order.
 */
export class Outbox {
  readonly #o: OutboxOptions;
  readonly #lanes = new Map<string, Lane<Sending>>();
  readonly #routes = new Map<string, { readonly ids: string[] | Promise<string[]>; readonly untilMs: number }>();
  /** By sender: the last of its messages whose recipient is being looked up. */
  readonly #lookups = new Map<string, Promise<void>>();
  readonly #stopping = new AbortController();

  constructor(options: OutboxOptions) {
    this.#o = options;
  }

  /** Gives up what waits: it was not stored, and its senders are ending. Safe to repeat. */
  stop(): void {
    this.#stopping.abort();
  }

  /**
   * Sends a message. Resolves when it is stored; that may take as long as its recipient's inbox is full.
   * @throws RequestError `no_recipient`, `ambiguous_stitch`, `inbox_full`, `shutting_down`.
   */
  async send(to: SendTo, message: Omit<Message, "to">, when: WhenFull = {}): Promise<void> {
    const { from } = message;
    const places = this.#find(to);
    const before = this.#lookups.get(from);
    if (before === undefined && !(places instanceof Promise)) return this.#post(places, message, when);
    const turn = Promise.allSettled([before, places]).then(() => undefined);
    this.#lookups.set(from, turn);
    await turn;
    if (this.#lookups.get(from) === turn) this.#lookups.delete(from);
    return this.#post(await places, message, when);
  }

  /** @throws RequestError where there is nobody, or where it could be several. */
  #find(to: SendTo): Place[] | Promise<Place[]> {
    if ("group" in to) return this.#findGroup(to.group);
    const ref = parseStitchRef(to.stitch);
    if (ref === null) throw refused("no_recipient", `"${to.stitch.slice(0, 200)}" is not a stitch's id`);
    const { stitch } = ref;
    if (ref.node !== null) return [{ node: ref.node, stitch, addressed: { to: { stitch } } }];
    const place = (node: string): Place[] => [{ node, stitch, addressed: { to: { stitch }, bare: true } }];
    // A bare id: this node first, then anywhere if it is unambiguous.
    if (this.#o.isHere(stitch)) return place(this.#o.node);
    const ids = this.#route(stitch);
    const only = (found: string[]) => place(nodeOfOnly(stitch, found));
    return ids instanceof Promise ? ids.then(only) : only(ids);
  }

  async #findGroup(group: string): Promise<Place[]> {
    const nodes = await nodesOfGroup(this.#o.redis, this.#o.keys, group);
    if (nodes.length === 0) throw refused("no_recipient", `no stitch of the group ${group} takes messages`);
    return nodes.map((node) => ({ node, stitch: "", addressed: { to: { group } } }));
  }

  #route(stitch: string): string[] | Promise<string[]> {
    const nowMs = this.#o.nowMs();
    const known = this.#routes.get(stitch);
    if (known !== undefined && nowMs < known.untilMs) return known.ids;
    if (this.#routes.size >= MOST_ROUTES) this.#routes.clear();
    const ids = this.#lookUp(stitch, nowMs + ROUTE_MS);
    this.#routes.set(stitch, { ids, untilMs: nowMs + ROUTE_MS });
    return ids;
  }

  async #lookUp(stitch: string, untilMs: number): Promise<string[]> {
    const ids = await locateStitch(this.#o.redis, this.#o.keys, stitch).catch((error: unknown) => {
      this.#routes.delete(stitch);
      throw error;
    });
    // One that is made in a moment must not be missing for seconds.
    if (ids.length === 1) this.#routes.set(stitch, { ids, untilMs });
    else this.#routes.delete(stitch);
    return ids;
  }

  /** All at once, so that what is said later comes after it. */
  async #post(places: readonly Place[], message: Omit<Message, "to">, when: WhenFull): Promise<void> {
    await Promise.all(
      places.map(({ node, stitch, addressed }) => this.#put(node, stitch, { ...message, ...addressed }, when)),
    );
  }

  #put(node: string, stitch: string, message: Message, when: WhenFull): Promise<void> {
    if (this.#stopping.signal.aborted) return Promise.reject(refused("shutting_down", "this node is leaving"));
    const sending: Sending = {
      from: message.from,
      stitch,
      body: JSON.stringify(message),
      stored: Promise.withResolvers(),
      when,
      toldFull: false,
    };
    const lane = this.#lanes.get(node);
    if (lane === undefined) {
      const opened = new Lane<Sending>();
      opened.push(sending);
      this.#lanes.set(node, opened);
      this.#carry(node, opened).catch(this.#o.onError);
    } else lane.push(sending);
    return sending.stored.promise;
  }

  /** Carries what waits for one node until nothing does. */
  async #carry(node: string, lane: Lane<Sending>): Promise<void> {
    const { signal } = this.#stopping;
    // What is sent in the same turn goes together.
    await new Promise((resolve) => setImmediate(resolve));
    while (!lane.isEmpty) {
      if (signal.aborted) {
        for (const { stored } of lane.takeOut(() => true))
          stored.reject(refused("shutting_down", "this node is leaving"));
        break;
      }
      const batch = lane.next();
      const placed = await putMessages(this.#o.direct, this.#o.keys, node, batch).catch((error: unknown) => {
        this.#o.onError(error);
        return null;
      });
      if (placed === null) {
        lane.putBack(batch);
        await pause(RETRY_MS, signal);
        continue;
      }
      const left = batch.filter((sending, index) => this.#stays(node, sending, placed[index] ?? "full"));
      if (left.length === 0) continue;
      const goesOn = lane.putBehind(left) && left.length < batch.length;
      this.#giveUpLate(node, lane);
      if (!goesOn) await pause(RETRY_MS, signal);
    }
    this.#lanes.delete(node);
  }

  /** Tells its sender what became of a message. @returns true where it is to be tried again. */
  #stays(node: string, sending: Sending, placed: Placed): boolean {
    const { stored, when } = sending;
    if (placed === "stored") stored.resolve();
    else if (placed === "gone") stored.reject(refused("no_recipient", `there is no node "${node}"`));
    else if (!sending.toldFull) {
      sending.toldFull = true;
      when.onFull?.();
    }
    return placed === "full";
  }

  #giveUpLate(node: string, lane: Lane<Sending>): void {
    const nowMs = this.#o.nowMs();
    for (const { stitch, stored } of lane.takeOut(({ when }) => when.untilMs !== undefined && nowMs >= when.untilMs))
      stored.reject(refused("inbox_full", `the inbox of ${stitch === "" ? node : `${node}:${stitch}`} is full`));
  }
}

function nodeOfOnly(stitch: string, [only, ...others]: readonly string[]): string {
  if (only === undefined) throw refused("no_recipient", `there is no stitch "${stitch}"`);
  if (others.length > 0)
    throw refused("ambiguous_stitch", `several nodes have a stitch "${stitch}": ${[only, ...others].join(", ")}`);
  return splitFullId(only).node;
}

const refused = (code: ErrorCode, detail: string) => new RequestError(code, detail);
