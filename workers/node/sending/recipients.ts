import { RequestError } from "../../../src/domain/errors.ts";
import type { Message } from "../../../src/domain/message.ts";
import { parseStitchRef, splitFullId } from "../../../src/domain/names/ids.ts";
import type { Routes } from "../../../src/master/ports.ts";

/** How long a route is used without being read again. A stale route costs a hop: its node sends the message on. */
export const ROUTE_MS = 5000;
const MOST_ROUTES = 10_000;

export type RecipientsOptions = {
  readonly routing: Pick<Routes, "locate" | "nodesOf">;
  readonly node: string;
  /** Does this bare id mean a stitch on this node? It does not mean a stitch that is still arriving. */
  readonly isHere: (stitch: string) => boolean;
  readonly nowMs: () => number;
};

/** The recipient of a stitch's message: a stitch by its bare or full id, or a group. */
export type SendTo = { readonly stitch: string } | { readonly group: string };

/** Where a message goes: a node, and its recipient there, or "" for several. */
export type Place = {
  readonly node: string;
  readonly stitch: string;
  readonly addressed: Pick<Message, "to" | "bare">;
};

/** Finds where messages go. Routes of bare ids are kept for `ROUTE_MS`. */
export class Recipients {
  readonly #options: RecipientsOptions;
  readonly #routes = new Map<string, { readonly ids: string[] | Promise<string[]>; readonly untilMs: number }>();

  constructor(options: RecipientsOptions) {
    this.#options = options;
  }

  /** Returns the places at once if they are known. @throws RequestError `no_recipient`, `ambiguous_stitch`. */
  find(to: SendTo): Place[] | Promise<Place[]> {
    if ("group" in to) return this.#findGroup(to.group);
    const ref = parseStitchRef(to.stitch);
    if (ref === null) throw new RequestError("no_recipient", `"${to.stitch.slice(0, 200)}" is not a stitch's id`);
    const { stitch } = ref;
    if (ref.node !== null) return [{ node: ref.node, stitch, addressed: { to: { stitch } } }];
    const place = (node: string): Place[] => [{ node, stitch, addressed: { to: { stitch }, bare: true } }];
    // A bare id: this node first, then anywhere if it is unambiguous.
    if (this.#options.isHere(stitch)) return place(this.#options.node);
    const ids = this.#route(stitch);
    const only = (found: string[]) => place(nodeOfOnly(stitch, found));
    return ids instanceof Promise ? ids.then(only) : only(ids);
  }

  async #findGroup(group: string): Promise<Place[]> {
    const nodes = await this.#options.routing.nodesOf(group);
    if (nodes.length === 0) throw new RequestError("no_recipient", `no stitch of the group ${group} takes messages`);
    return nodes.map((node) => ({ node, stitch: "", addressed: { to: { group } } }));
  }

  #route(stitch: string): string[] | Promise<string[]> {
    const nowMs = this.#options.nowMs();
    const known = this.#routes.get(stitch);
    if (known !== undefined && nowMs < known.untilMs) return known.ids;
    if (this.#routes.size >= MOST_ROUTES) this.#routes.clear();
    const ids = this.#lookUp(stitch, nowMs + ROUTE_MS);
    this.#routes.set(stitch, { ids, untilMs: nowMs + ROUTE_MS });
    return ids;
  }

  async #lookUp(stitch: string, untilMs: number): Promise<string[]> {
    const ids = await this.#options.routing.locate(stitch).catch((error: unknown) => {
      this.#routes.delete(stitch);
      throw error;
    });
    // A stitch that is created a moment later must not be missing for seconds.
    if (ids.length === 1) this.#routes.set(stitch, { ids, untilMs });
    else this.#routes.delete(stitch);
    return ids;
  }
}

function nodeOfOnly(stitch: string, [only, ...others]: readonly string[]): string {
  if (only === undefined) throw new RequestError("no_recipient", `there is no stitch "${stitch}"`);
  if (others.length > 0)
    throw new RequestError(
      "ambiguous_stitch",
      `several nodes have a stitch "${stitch}": ${[only, ...others].join(", ")}`,
    );
  return splitFullId(only).node;
}
