import { RequestError } from "../../domain/errors.ts";
import { groupContains } from "../../domain/names/group.ts";
import { fullId, parseStitchRef, splitFullId } from "../../domain/names/ids.ts";
import { asLetter, type DeadLetter, type Message, readMessage } from "../../domain/message.ts";
import type { ListResource } from "../../contract/list.ts";
import type { DeadLetterResource, SentResource } from "../../contract/message.ts";
import type { StitchRecord } from "../../domain/stitch/stitch.ts";
import type { RedisClient } from "../../redis/connection/client.ts";
import { readAsOf } from "../state/as-of.ts";
import {
  addDeadLetters,
  dropDeadLetter,
  type LettersOfNode,
  listDeadLetters,
  nodesWithDeadLetters,
  type PlacedLetter,
  readDeadLetter,
} from "../../redis/inbox/dead-letters.ts";
import { acknowledgeEntries, dropInbox, readOldestEntries } from "../../redis/inbox/inbox.ts";
import { putMessages } from "../../redis/inbox/put-messages.ts";
import type { Keys } from "../../redis/keys.ts";
import { redisTimeMs } from "../../redis/node/node-record.ts";
import { giveReceipts } from "../../redis/inbox/receipts.ts";
import type { OnUnreadable } from "../../redis/unreadable.ts";
import { decodeCursor, encodeCursor } from "../state/cursor.ts";
import { iso } from "../../contract/time.ts";
import type { DeadLetterFilter, Page } from "../ports.ts";
import type { Recipients } from "./recipients.ts";
import { search } from "../state/search.ts";

/** The characters after which a page ends, and how many dead letters are read at once if all have more: each may have a MiB. */
const LETTERS_AT_ONCE = 20;
const MOST_LETTERS_AT_ONCE = 1000;
const PAGE_CHARACTERS = 4 * 1024 * 1024;
/** How many messages of an inbox become dead letters at once. */
const BURIED_AT_ONCE = 20;

export type DeadLettersOptions = {
  readonly redis: RedisClient;
  readonly keys: Keys;
  readonly recipients: Recipients;
  readonly nowMs: () => number;
  readonly onUnreadable: OnUnreadable;
};

/** Looks after messages that could not be delivered. */
export class DeadLetters {
  readonly #options: DeadLettersOptions;

  constructor(options: DeadLettersOptions) {
    this.#options = options;
  }

  /** Dead letters, node by node, the oldest of each first. */
  async list(page: Page, filter: DeadLetterFilter): Promise<ListResource<DeadLetterResource>> {
    const { redis, keys } = this.#options;
    const after = page.cursor === null ? null : decodeCursor(page.cursor, placeOrNull);
    const [asOfMs, all] = await readAsOf(redis, keys, () => nodesWithDeadLetters(redis, keys));
    const nodes = all
      .filter(({ node }) => filter.node === undefined || node === filter.node)
      .filter(({ node }) => after === null || node >= after.node);
    const isLittle = nodes.reduce((sum, { bytes }) => sum + bytes, 0) <= PAGE_CHARACTERS;
    let characters = 0;
    const { items, last } = await search({
      limit: page.limit,
      atOnce: isLittle ? MOST_LETTERS_AT_ONCE : LETTERS_AT_ONCE,
      after,
      read: (from: Place | null, count) => this.#readNext(nodes, from, count),
      view: (rows) => Promise.resolve(rows.map((row) => wantedView(row, filter.stitch))),
      fills: ({ data }) => (characters += data.length) > PAGE_CHARACTERS,
      nowMs: this.#options.nowMs,
    });
    return {
      items,
      nextCursor: last === null ? null : encodeCursor([last.node, last.entry]),
      asOf: iso(asOfMs),
    };
  }

  async #readNext(all: readonly LettersOfNode[], after: Place | null, count: number): Promise<PlacedLetter[]> {
    const { redis, keys, onUnreadable } = this.#options;
    const rows: PlacedLetter[] = [];
    let nodes = all.filter(({ node }) => after === null || node >= after.node);
    // Some letters may be gone by now: then it takes more nodes.
    while (nodes.length > 0 && rows.length < count) {
      const wanted = count - rows.length;
      const asked = nodes.slice(0, enough(nodes, after, wanted));
      const found = await Promise.all(
        asked.map(({ node }) => {
          const from = after?.node === node ? after.entry : null;
          return listDeadLetters(redis, keys, node, from, wanted, onUnreadable);
        }),
      );
      rows.push(...found.flat());
      nodes = nodes.slice(asked.length);
    }
    return rows.slice(0, count);
  }

  /** Sends a dead letter to the node where its recipient lives now, under the same message id, and deletes it. */
  async redrive(id: string): Promise<SentResource> {
    const { redis, keys } = this.#options;
    const { node, entry } = placeOf(id);
    const letter = await readDeadLetter(redis, keys, node, entry);
    if (letter === null) throw noLetter(id);
    const { node: to, stitch } = splitFullId(await this.#recipientOf(letter));
    const { messageId, from, bare, channel, data } = letter;
    const message: Message = {
      id: messageId,
      from,
      to: { stitch },
      bare,
      channel,
      data,
      ref: null,
      re: null,
      receipt: null,
      hops: 0,
      sentAtMs: null,
    };
    const [placed] = await putMessages(redis, keys, to, [{ stitch, body: JSON.stringify(message) }]);
    if (placed === "gone")
      throw new RequestError("no_recipient", `${to} has just been forgotten, with all of its stitches.`);
    if (placed !== "stored")
      throw new RequestError("inbox_full", `The inbox of ${to}:${stitch} is full; try again later.`);
    await dropDeadLetter(redis, keys, node, entry);
    return { messageId, deliveries: [{ stitch: `${to}:${stitch}`, status: "accepted" }] };
  }

  /** Where the recipient lives now. If the sender gave a bare id, that stitch may have been created again on another node. */
  async #recipientOf({ to, bare }: DeadLetter): Promise<string> {
    const { recipients } = this.#options;
    return recipients.addressable(to).catch((error: unknown) => {
      const isGone = error instanceof RequestError && error.code === "no_recipient";
      if (bare !== true || !isGone) throw error;
      return recipients.addressable(splitFullId(to).stitch);
    });
  }

  async delete(id: string): Promise<void> {
    const { node, entry } = placeOf(id);
    if (!(await dropDeadLetter(this.#options.redis, this.#options.keys, node, entry))) throw noLetter(id);
  }

  /**
   * Turns the messages in the inbox of a node that is being forgotten into dead letters, one for each recipient. Then deletes
   * the inbox, so that nobody can send to the node. Safe to repeat.
   * @param incarnation of the node that is being forgotten.
   * @param stitches the known stitches of the node, to find the members of a group.
   * @throws InboxTaken if a later incarnation has taken the inbox.
   */
  async buryInbox(node: string, incarnation: number, stitches: readonly StitchRecord[]): Promise<void> {
    const { redis, keys } = this.#options;
    const code = "node_forgotten";
    const buried = { code, reason: "its node was forgotten before the message was taken", tries: 0 } as const;
    do {
      for (;;) {
        const [atMs, entries] = await Promise.all([
          redisTimeMs(redis, keys.nodeDeadLetters(node)),
          readOldestEntries(redis, keys, node, BURIED_AT_ONCE),
        ]);
        if (entries.length === 0) break;
        const rows = entries.flatMap(({ kind, body }) => {
          const read = kind === "message" ? readMessage(body) : null;
          if (read === null || "wrong" in read) return [];
          const { message } = read;
          return recipientsOf(message, node, stitches).map((id) => ({ message, stitch: fullId(node, id) }));
        });
        const letters = rows.map(
          ({ message, stitch }): DeadLetter => ({ to: stitch, ...asLetter(message, { ...buried, atMs }) }),
        );
        await addDeadLetters(redis, keys, node, letters);
        await Promise.all([
          giveReceipts(
            redis,
            keys,
            rows.map(({ message, stitch }) => ({
              message,
              receipt: { stitch: message.receipt?.stitch ?? stitch, status: "failed", code },
            })),
          ),
          acknowledgeEntries(redis, keys, node, incarnation, entries),
        ]);
      }
    } while (!(await dropInbox(redis, keys, node)));
  }
}

/** The recipients of a message in a node's inbox, by bare id, as far as the node's stitches are known. */
function recipientsOf({ to, from }: Message, node: string, stitches: readonly StitchRecord[]): readonly string[] {
  if ("stitch" in to) return [to.stitch];
  if ("stitches" in to) return to.stitches;
  return stitches
    .filter(
      ({ id, group, takesMessages }) => takesMessages && groupContains(to.group, group) && fullId(node, id) !== from,
    )
    .map(({ id }) => id);
}

/** How many of the nodes have so many letters together. How many of the node of `after` come after it is unknown: it counts as none. */
function enough(nodes: readonly LettersOfNode[], after: Place | null, wanted: number): number {
  let letters = 0;
  for (const [index, { node, count }] of nodes.entries()) {
    if (node !== after?.node) letters += count;
    if (letters >= wanted) return index + 1;
  }
  return nodes.length;
}

type Place = Pick<PlacedLetter, "node" | "entry">;

/** `<node>.<entry>`: a node's id has no dot. */
const letterId = ({ node, entry }: Place): string => `${node}.${entry}`;

function placeOf(id: string): Place {
  const match = /^([a-z0-9][a-z0-9-]{0,62})\.(\d{1,20}-\d{1,20})$/.exec(id);
  if (match?.[1] === undefined || match[2] === undefined) throw noLetter(id);
  return { node: match[1], entry: match[2] };
}

const noLetter = (id: string) =>
  new RequestError("not_found", `There is no dead letter "${id}"; GET /v1/dead-letters lists them.`);

const placeOrNull = (value: unknown): Place | null =>
  Array.isArray(value) && typeof value[0] === "string" && typeof value[1] === "string" && /^\d+-\d+$/.test(value[1])
    ? { node: value[0], entry: value[1] }
    : null;

/** null if the dead letter cannot be read, or is not for the stitch. */
const wantedView = ({ node, entry, letter }: PlacedLetter, stitch: string | undefined): DeadLetterResource | null =>
  letter === null || (stitch !== undefined && !isFor(letter, stitch)) ? null : letterView({ node, entry, letter });

/** A dead letter for a group without known members on that node is for no stitch. */
const isFor = ({ to }: DeadLetter, ref: string): boolean => to === ref || parseStitchRef(to)?.stitch === ref;

function letterView({ node, entry, letter }: PlacedLetter & { readonly letter: DeadLetter }): DeadLetterResource {
  const { messageId, from, to, channel, data, code, reason, tries, atMs } = letter;
  return {
    id: letterId({ node, entry }),
    messageId,
    node,
    stitch: to,
    from,
    channel,
    data,
    code,
    reason,
    tries,
    at: iso(atMs),
  };
}
