import { RequestError } from "../../domain/errors.ts";
import { fullId, splitFullId } from "../../domain/names/ids.ts";
import type { Recipient } from "../../domain/message.ts";
import { livenessOf } from "../../domain/node/node.ts";
import type { StitchRecord } from "../../domain/stitch/stitch.ts";
import type { RedisClient } from "../../redis/connection/client.ts";
import type { Keys } from "../../redis/keys.ts";
import type { Post } from "../../redis/inbox/message-record.ts";
import { readNodes } from "../../redis/node/node-record.ts";
import { receiversOf } from "../../redis/stitch/routes.ts";
import { readOwnStitches, readStitch, readStitches } from "../../redis/stitch/stitch-records.ts";
import type { OnUnreadable } from "../../redis/unreadable.ts";

/** Most moves to follow to find where a stitch lives now. */
const MOST_MOVES = 5;
/** Members of a group that are read in one round trip to find a healthy one. */
const LOOKED_AT = 10;

export type RecipientsOptions = {
  readonly redis: RedisClient;
  readonly keys: Keys;
  readonly locate: (ref: string) => Promise<string>;
  readonly deadAfterMs: number;
  /** Called for a record that cannot be read, if there are others to choose from. */
  readonly onUnreadable: OnUnreadable;
};

/** Finds the stitches that a client's message is for, and the nodes they live on. */
export class Recipients {
  readonly #options: RecipientsOptions;
  /** The stitch that got the last `oneOf` message of each group. */
  readonly #turns = new Map<string, string>();

  constructor(options: RecipientsOptions) {
    this.#options = options;
  }

  /**
   * The inboxes that a message goes to, with the recipients in each.
   * @throws RequestError `no_recipient`, `ambiguous_stitch`, `not_addressable`.
   */
  async of(to: Recipient): Promise<Post[]> {
    if ("stitch" in to) return [toOne(await this.addressable(to.stitch))];
    if ("oneOf" in to) return [toOne(await this.#oneOf(to.oneOf))];
    if ("group" in to) {
      const members = await receiversOf(this.#options.redis, this.#options.keys, to.group);
      if (members.length === 0)
        throw new RequestError("no_recipient", `No stitch of the group "${to.group}" takes messages.`);
      return [...Map.groupBy(members, (id) => splitFullId(id).node)].map(([node, ids]) => toSeveral(node, ids));
    }
    const { redis, keys, onUnreadable } = this.#options;
    const [[node], { stitches }] = await Promise.all([
      readNodes(redis, keys, [to.node]),
      readOwnStitches(redis, keys, to.node, onUnreadable),
    ]);
    if (node == null)
      throw new RequestError("no_recipient", `There is no node "${to.node}"; GET /v1/nodes lists them.`);
    const members = stitches.filter(({ takesMessages }) => takesMessages).map(({ id }) => fullId(to.node, id));
    if (members.length === 0) throw new RequestError("no_recipient", `No stitch of ${to.node} takes messages.`);
    return [toSeveral(to.node, members)];
  }

  /** The full id under which a stitch lives now, if it takes messages. @throws as `of`. */
  async addressable(ref: string): Promise<string> {
    const { redis, keys, locate } = this.#options;
    let id = await locate(ref).catch((error: unknown) => {
      throw error instanceof RequestError && error.code === "not_found"
        ? new RequestError("no_recipient", `There is no stitch "${ref}"; GET /v1/stitches lists them.`)
        : error;
    });
    for (let moves = 0; moves <= MOST_MOVES; moves++) {
      const { record, movedTo } = await readStitch(redis, keys, id);
      if (record !== null) {
        if (record.takesMessages) return id;
        throw new RequestError("not_addressable", `"${id}" speaks no protocol that takes messages (protocol "none").`);
      }
      if (movedTo === null) break;
      id = movedTo;
    }
    throw new RequestError("no_recipient", `There is no stitch "${ref}"; GET /v1/stitches lists them.`);
  }

  /** A healthy member of the group: round robin over the messages that this process sends. */
  async #oneOf(group: string): Promise<string> {
    const { redis, keys } = this.#options;
    const members = await receiversOf(redis, keys, group);
    const last = this.#turns.get(group) ?? "";
    const inTurn = [...members.filter((id) => id > last), ...members.filter((id) => id <= last)];
    for (let from = 0; from < inTurn.length; from += LOOKED_AT) {
      const found = await this.#firstWell(inTurn.slice(from, from + LOOKED_AT));
      if (found === null) continue;
      this.#turns.set(group, found);
      return found;
    }
    throw new RequestError("no_recipient", `No stitch of the group "${group}" is green and takes messages.`);
  }

  /** The first stitch that is green and on a live node: the last report of a dead node says nothing about health. */
  async #firstWell(ids: readonly string[]): Promise<string | null> {
    const { redis, keys, deadAfterMs, onUnreadable } = this.#options;
    const nodeIds = [...new Set(ids.map((id) => splitFullId(id).node))];
    const [records, nodes] = await Promise.all([
      readStitches(redis, keys, ids, onUnreadable),
      readNodes(redis, keys, nodeIds, onUnreadable),
    ]);
    const alive = new Set(
      nodes.flatMap((node) => (node !== null && livenessOf(node, deadAfterMs) === "alive" ? [node.id] : [])),
    );
    const isWell = (id: string, record: StitchRecord | null | undefined) =>
      record?.health === "green" && record.state === "running" && alive.has(splitFullId(id).node);
    return ids.find((id, index) => isWell(id, records[index])) ?? null;
  }
}

const toOne = (id: string): Post => {
  const { node, stitch } = splitFullId(id);
  return { node, to: { stitch }, stitches: [id] };
};

/** Names each stitch: if one has just gone, its message follows it to its new node or becomes a dead letter. */
const toSeveral = (node: string, ids: readonly string[]): Post => ({
  node,
  to: { stitches: ids.map((id) => splitFullId(id).stitch) },
  stitches: [...ids],
});
