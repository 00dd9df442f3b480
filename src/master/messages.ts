import { canonicalJson } from "../domain/canonical-json.ts";
import { RequestError } from "../domain/errors.ts";
import { splitFullId } from "../domain/ids.ts";
import {
  API_SENDER,
  type DeadLetter,
  dataText,
  isAddressable,
  MAX_DATA_BYTES,
  type Message,
  type Receipt,
  type Recipient,
  type SendRequest,
} from "../domain/message.ts";
import type { DeadLetterResource, DeliveryResource, ListResource, SentResource } from "../domain/resources.ts";
import type { RedisClient } from "../redis/client.ts";
import {
  dropDeadLetter,
  listDeadLetters,
  nodesWithDeadLetters,
  type PlacedLetter,
  readDeadLetter,
} from "../redis/dead-letters.ts";
import { putMessages } from "../redis/inbox.ts";
import type { Keys } from "../redis/keys.ts";
import { claimMessage, rememberMessage } from "../redis/message-record.ts";
import { readNodes, redisTimeMs } from "../redis/node-record.ts";
import { takeReceipts } from "../redis/receipts.ts";
import type { ReplyHints } from "../redis/reply-hints.ts";
import { receiversOf } from "../redis/routes.ts";
import { readOwnStitches, readRemoved, readStitches } from "../redis/stitch-records.ts";
import { decodeCursor, encodeCursor } from "./cluster-state.ts";
import { sha256Hex } from "./digest.ts";
import { iso } from "./job-view.ts";
import type { DeadLetterFilter, Page, Sent } from "./master.ts";

/** Whoever waits for receipts looks this often even where no hint comes. */
const LOOK_MS = 1000;
/** Tombstones that are followed to find where a stitch lives now. */
const MOST_MOVES = 5;
/** Members of a group that are looked at in one round trip for one that is well. */
const LOOKED_AT = 10;

export type MessagesOptions = {
  readonly redis: RedisClient;
  readonly keys: Keys;
  readonly replies: ReplyHints;
  readonly locate: (ref: string) => Promise<string>;
  readonly nowMs: () => number;
  readonly randomBytes: (count: number) => Uint8Array;
};

/** One entry of one node's inbox, and the recipients it is for. */
type Post = { readonly node: string; readonly to: Message["to"]; readonly stitches: readonly string[] };

/** Duty 4: routes messages from clients to stitches, and looks after those that could not be delivered. */
export class Messages {
  readonly #o: MessagesOptions;
  /** Where the last `oneOf` of each group went. */
  readonly #turns = new Map<string, string>();

  constructor(options: MessagesOptions) {
    this.#o = options;
  }

  /**
   * Sends a message, and waits for what was asked for.
   * @throws RequestError `no_recipient`, `ambiguous_stitch`, `not_addressable`, `too_large`, `inbox_full`; to one stitch
   *   also `stitch_failed` and `reply_timeout`; `idempotency_conflict`.
   */
  async send(request: SendRequest, idempotencyKey: string | null, scope: string): Promise<Sent> {
    const data = dataText(request.data);
    if (new TextEncoder().encode(data).length > MAX_DATA_BYTES)
      throw new RequestError("too_large", `The data of a message is at most ${MAX_DATA_BYTES} bytes.`);
    if (idempotencyKey === null) {
      const { sent } = await this.#sendNew(request, data, this.#newId());
      return { sent, replayed: false };
    }
    const { redis, keys } = this.#o;
    const id = (await sha256Hex(JSON.stringify(["message", keys.cluster, scope, idempotencyKey]))).slice(0, 32);
    const bodyHash = await sha256Hex(canonicalJson(request));
    const known = await claimMessage(redis, keys, id, bodyHash);
    if (known !== null && known.bodyHash !== bodyHash)
      throw new RequestError(
        "idempotency_conflict",
        "This Idempotency-Key was used for another message; use a new key for a new message.",
      );
    if (known?.deliveries != null) return { sent: { messageId: id, deliveries: known.deliveries }, replayed: true };
    // Nobody has said that it was stored: a sender that died on the way, or one that is about to. The recipient knows it by its id.
    const { sent } = await this.#sendNew(request, data, id, (deliveries) =>
      rememberMessage(redis, keys, id, bodyHash, deliveries),
    );
    return { sent, replayed: false };
  }

  async #sendNew(
    request: SendRequest,
    data: string,
    id: string,
    onStored: (deliveries: readonly DeliveryResource[]) => Promise<void> = async () => undefined,
  ): Promise<{ sent: SentResource }> {
    const { redis, keys, replies, nowMs } = this.#o;
    const posts = await this.#postsFor(request.to);
    const waits = request.expect !== "none";
    const reply = waits ? this.#newId() : "";
    const message = {
      id,
      from: `${API_SENDER}${id}`,
      channel: request.channel,
      data,
      ref: null,
      re: null,
      receipt: waits ? { reply, asker: replies.asker } : null,
      hops: 0,
      sentAtMs: nowMs(),
    };
    const watch = waits ? replies.watch(reply) : null;
    try {
      const rows = new Map<string, DeliveryResource>();
      await Promise.all(
        posts.map(async ({ node, to, stitches }) => {
          const stitch = "stitch" in to ? to.stitch : "";
          const [placed = false] = await putMessages(redis, keys, node, [
            { stitch, body: JSON.stringify({ ...message, to }) },
          ]);
          for (const each of stitches)
            rows.set(
              each,
              placed ? { stitch: each, status: "accepted" } : { stitch: each, status: "rejected", code: "inbox_full" },
            );
        }),
      );
      if ([...rows.values()].every(({ status }) => status === "rejected"))
        throw new RequestError(
          "inbox_full",
          "Its inbox is full: it does not keep up with its messages. Send again later.",
        );
      await onStored([...rows.values()]);
      if (watch !== null) await this.#await(request, reply, rows, watch.next);
      const deliveries = [...rows.values()].sort((a, b) => (a.stitch < b.stitch ? -1 : 1));
      if ("stitch" in request.to || "oneOf" in request.to) verdict(request, id, deliveries);
      return { sent: { messageId: id, deliveries } };
    } finally {
      watch?.stop();
    }
  }

  async #await(
    { expect, timeoutMs }: SendRequest,
    reply: string,
    rows: Map<string, DeliveryResource>,
    next: (ms: number) => Promise<unknown>,
  ): Promise<void> {
    const { redis, keys, nowMs } = this.#o;
    const untilMs = nowMs() + timeoutMs;
    const open = () =>
      [...rows.values()].filter(({ status }) => status === "accepted" || (expect === "reply" && status === "acked"));
    while (open().length > 0) {
      const leftMs = untilMs - nowMs();
      if (leftMs > 0) await next(Math.min(LOOK_MS, leftMs));
      for (const receipt of await takeReceipts(redis, keys, reply)) rows.set(receipt.stitch, rowOf(receipt));
      if (leftMs <= 0) {
        for (const { stitch } of open()) rows.set(stitch, { stitch, status: "timeout" });
        return;
      }
    }
  }

  async #postsFor(to: Recipient): Promise<Post[]> {
    if ("stitch" in to) {
      const id = await this.#addressable(to.stitch);
      return [toOne(id)];
    }
    if ("oneOf" in to) return [toOne(await this.#oneOf(to.oneOf))];
    if ("group" in to) {
      const members = await receiversOf(this.#o.redis, this.#o.keys, to.group);
      if (members.length === 0)
        throw new RequestError("no_recipient", `No stitch of the group "${to.group}" takes messages.`);
      const byNode = Map.groupBy(members, (id) => splitFullId(id).node);
      return [...byNode].map(([node, stitches]) => ({ node, to: { group: to.group }, stitches }));
    }
    const { redis, keys } = this.#o;
    const [[node], { stitches }] = await Promise.all([
      readNodes(redis, keys, [to.node]),
      readOwnStitches(redis, keys, to.node),
    ]);
    if (node == null) throw new RequestError("not_found", `There is no node "${to.node}"; GET /v1/nodes lists them.`);
    const members = stitches.filter(({ spec }) => isAddressable(spec)).map(({ id }) => `${to.node}:${id}`);
    if (members.length === 0) throw new RequestError("no_recipient", `No stitch of ${to.node} takes messages.`);
    return [{ node: to.node, to: { all: true }, stitches: members }];
  }

  /** The full id under which a stitch lives now, where it takes messages. */
  async #addressable(ref: string): Promise<string> {
    const { redis, keys, locate } = this.#o;
    let id = await locate(ref).catch((error: unknown) => {
      throw error instanceof RequestError && error.code === "not_found"
        ? new RequestError("no_recipient", `There is no stitch "${ref}"; GET /v1/stitches lists them.`)
        : error;
    });
    for (let moves = 0; moves <= MOST_MOVES; moves++) {
      const [[record], removed] = await Promise.all([readStitches(redis, keys, [id]), readRemoved(redis, keys, id)]);
      if (record != null) {
        if (isAddressable(record.spec)) return id;
        throw new RequestError("not_addressable", `"${id}" speaks no protocol that takes messages (protocol "none").`);
      }
      if (removed?.movedTo == null) break;
      id = removed.movedTo;
    }
    throw new RequestError("no_recipient", `There is no stitch "${ref}"; GET /v1/stitches lists them.`);
  }

  /** A member of the group that is well: each in its turn, as far as this process has sent. */
  async #oneOf(group: string): Promise<string> {
    const { redis, keys } = this.#o;
    const members = await receiversOf(redis, keys, group);
    const last = this.#turns.get(group) ?? "";
    const inTurn = [...members.filter((id) => id > last), ...members.filter((id) => id <= last)];
    for (let from = 0; from < inTurn.length; from += LOOKED_AT) {
      const looked = inTurn.slice(from, from + LOOKED_AT);
      const records = await readStitches(redis, keys, looked);
      const found = looked.find(
        (_, index) => records[index]?.health === "green" && records[index]?.state === "running",
      );
      if (found === undefined) continue;
      this.#turns.set(group, found);
      return found;
    }
    throw new RequestError("no_recipient", `No stitch of the group "${group}" is green and takes messages.`);
  }

  /** Dead letters, node by node, the oldest of each first. */
  async deadLetters(page: Page, filter: DeadLetterFilter): Promise<ListResource<DeadLetterResource>> {
    const { redis, keys } = this.#o;
    const after = page.cursor === null ? null : decodeCursor(page.cursor, placeOrNull);
    const [nowMs, nodes] = await Promise.all([redisTimeMs(redis), nodesWithDeadLetters(redis, keys)]);
    const rows: PlacedLetter[] = [];
    for (const node of nodes) {
      if (rows.length >= page.limit) break;
      if ((filter.node !== undefined && node !== filter.node) || (after !== null && node < after.node)) continue;
      const from = after?.node === node ? after.entry : null;
      rows.push(...(await listDeadLetters(redis, keys, node, from, page.limit - rows.length)));
    }
    const last = rows.length === page.limit ? rows.at(-1) : undefined;
    return {
      items: rows.filter(({ letter }) => filter.stitch === undefined || isFor(letter, filter.stitch)).map(letterView),
      nextCursor: last === undefined ? null : encodeCursor([last.node, last.entry]),
      asOf: iso(nowMs),
    };
  }

  /** Sends a dead letter again to where its recipient lives now, under the same message id, and forgets it. */
  async redrive(id: string): Promise<SentResource> {
    const { redis, keys, nowMs } = this.#o;
    const { node, entry } = placeOf(id);
    const letter = await readDeadLetter(redis, keys, node, entry);
    if (letter === null) throw noLetter(id);
    const { node: to, stitch } = splitFullId(await this.#addressable(letter.to));
    const { messageId, from, channel, data } = letter;
    const message: Message = {
      id: messageId,
      from,
      to: { stitch },
      channel,
      data,
      ref: null,
      re: null,
      receipt: null,
      hops: 0,
      sentAtMs: nowMs(),
    };
    const [placed] = await putMessages(redis, keys, to, [{ stitch, body: JSON.stringify(message) }]);
    if (placed !== true) throw new RequestError("inbox_full", `The inbox of ${to}:${stitch} is full; try again later.`);
    await dropDeadLetter(redis, keys, node, entry);
    return { messageId, deliveries: [{ stitch: `${to}:${stitch}`, status: "accepted" }] };
  }

  async deleteDeadLetter(id: string): Promise<void> {
    const { node, entry } = placeOf(id);
    if (!(await dropDeadLetter(this.#o.redis, this.#o.keys, node, entry))) throw noLetter(id);
  }

  #newId(): string {
    return [...this.#o.randomBytes(16)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  }
}

const toOne = (id: string): Post => {
  const { node, stitch } = splitFullId(id);
  return { node, to: { stitch }, stitches: [id] };
};

const rowOf = ({ stitch, status, code, data }: Receipt): DeliveryResource => ({
  stitch,
  status,
  ...(code === undefined ? {} : { code }),
  ...(data === undefined ? {} : { data }),
});

/** What became of a message to one stitch. After a move it is another one than the message was sent to. */
function verdict({ expect }: SendRequest, messageId: string, deliveries: readonly DeliveryResource[]): void {
  if (expect === "none") return;
  const failed = deliveries.find(({ status }) => status === "failed");
  if (failed !== undefined && deliveries.every(({ status }) => status === "failed" || status === "timeout"))
    throw new RequestError(
      "stitch_failed",
      `${failed.stitch} did not take the message (${failed.code ?? "failed"}); it is among the dead letters.`,
      { messageId, deliveries },
    );
  if (expect === "reply" && !deliveries.some(({ status }) => status === "replied"))
    throw new RequestError("reply_timeout", "No reply came in time; the message is stored and may yet arrive.", {
      messageId,
      deliveries,
    });
}

/** `<node>.<entry>`: a node's id has no dot. */
const letterId = ({ node, entry }: Pick<PlacedLetter, "node" | "entry">): string => `${node}.${entry}`;

function placeOf(id: string): { node: string; entry: string } {
  const match = /^([a-z0-9][a-z0-9-]{0,62})\.(\d{1,20}-\d{1,20})$/.exec(id);
  if (match?.[1] === undefined || match[2] === undefined) throw noLetter(id);
  return { node: match[1], entry: match[2] };
}

const noLetter = (id: string) =>
  new RequestError("not_found", `There is no dead letter "${id}"; GET /v1/dead-letters lists them.`);

const placeOrNull = (value: unknown): { node: string; entry: string } | null =>
  Array.isArray(value) && typeof value[0] === "string" && typeof value[1] === "string" && /^\d+-\d+$/.test(value[1])
    ? { node: value[0], entry: value[1] }
    : null;

const isFor = (letter: DeadLetter, ref: string): boolean => letter.to === ref || splitFullId(letter.to).stitch === ref;

function letterView({ node, entry, letter }: PlacedLetter): DeadLetterResource {
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
