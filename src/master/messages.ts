import { canonicalJson } from "../domain/canonical-json.ts";
import { RequestError } from "../domain/errors.ts";
import { groupContains } from "../domain/group.ts";
import { fullId, splitFullId } from "../domain/ids.ts";
import {
  API_SENDER,
  type DeadLetter,
  dataText,
  isAddressable,
  MAX_DATA_BYTES,
  type Message,
  readMessage,
  type Receipt,
  type Recipient,
  type SendRequest,
} from "../domain/message.ts";
import { livenessOf } from "../domain/node.ts";
import type { DeadLetterResource, DeliveryResource, ListResource, SentResource } from "../domain/resources.ts";
import type { StitchRecord } from "../domain/stitch.ts";
import type { RedisClient } from "../redis/client.ts";
import {
  addDeadLetters,
  dropDeadLetter,
  listDeadLetters,
  nodesWithDeadLetters,
  type PlacedLetter,
  readDeadLetter,
} from "../redis/dead-letters.ts";
import type { HintWatch } from "../redis/hint-watchers.ts";
import {
  acknowledgeEntries,
  dropInbox,
  type Placed,
  type Posted,
  putMessageOnce,
  putMessages,
  readOldestEntries,
} from "../redis/inbox.ts";
import type { Keys } from "../redis/keys.ts";
import {
  claimMessage,
  forgetMessage,
  type MessageRecord,
  type Post,
  readMessageRecord,
  rememberMessage,
} from "../redis/message-record.ts";
import { readNodes, redisTimeMs } from "../redis/node-record.ts";
import { dropReceipts, giveReceipts, readReceipts } from "../redis/receipts.ts";
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
/** Dead letters read at once, and characters of them after which a page ends: each may have a MiB. */
const LETTERS_AT_ONCE = 20;
const PAGE_CHARACTERS = 4 * 1024 * 1024;
/** Messages of an inbox that are buried in one go. */
const BURIED_AT_ONCE = 20;
/** Members of a group that are looked at in one round trip for one that is well. */
const LOOKED_AT = 10;

export type MessagesOptions = {
  readonly redis: RedisClient;
  readonly keys: Keys;
  readonly replies: ReplyHints;
  readonly locate: (ref: string) => Promise<string>;
  readonly deadAfterMs: number;
  readonly nowMs: () => number;
  readonly randomBytes: (count: number) => Uint8Array;
};

type Status = DeliveryResource["status"];
/** What became of a message, by full id. */
type Rows = Map<string, DeliveryResource>;

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
    if (idempotencyKey !== null) return this.#sendOnce(request, data, idempotencyKey, scope);
    const { redis, keys } = this.#o;
    const id = this.#newId();
    const posts = await this.#postsFor(request.to);
    const watch = this.#watch(request, id);
    try {
      const rows = await this.#store(request, data, id, posts, (node, posted) =>
        putMessages(redis, keys, node, [posted]).then(([placed = "full"]) => placed),
      );
      if (watch !== null) await this.#await(request, id, rows, watch);
      return { sent: verdict(request, id, rows), replayed: false };
    } finally {
      watch?.stop();
      // What comes after this goes by itself.
      if (watch !== null) dropReceipts(redis, keys, id).catch(() => undefined);
    }
  }

  /**
   * Sends a message with a key: where it goes is settled and written down first, and each inbox takes it once. So whoever
   * comes with the same key, at the same time or after a sender that died on the way, does what is left to do.
   */
  async #sendOnce(request: SendRequest, data: string, key: string, scope: string): Promise<Sent> {
    const { redis, keys } = this.#o;
    const id = (await sha256Hex(JSON.stringify(["message", keys.cluster, scope, key]))).slice(0, 32);
    const bodyHash = await sha256Hex(canonicalJson(request));
    const known = await readMessageRecord(redis, keys, id);
    const { record, isNew } =
      known === null
        ? await this.#claim(id, { bodyHash, posts: await this.#postsFor(request.to), deliveries: null })
        : { record: known, isNew: false };
    if (record.bodyHash !== bodyHash)
      throw new RequestError(
        "idempotency_conflict",
        "This Idempotency-Key was used for another message; use a new key for a new message.",
      );
    const watch = this.#watch(request, id);
    try {
      const rows: Rows =
        record.deliveries === null
          ? await this.#store(request, data, id, record.posts, (node, posted) =>
              putMessageOnce(redis, keys, node, id, posted),
            ).catch(async (error: unknown) => {
              if (error instanceof RequestError) await forgetMessage(redis, keys, id);
              throw error;
            })
          : rowsOf(record.deliveries);
      const remember = () => rememberMessage(redis, keys, id, { ...record, deliveries: [...rows.values()] });
      if (record.deliveries === null) await remember();
      if (watch !== null && (await this.#await(request, id, rows, watch))) await remember();
      return { sent: verdict(request, id, rows), replayed: !isNew };
    } finally {
      watch?.stop();
    }
  }

  async #claim(id: string, mine: MessageRecord): Promise<{ record: MessageRecord; isNew: boolean }> {
    const former = await claimMessage(this.#o.redis, this.#o.keys, id, mine);
    return { record: former ?? mine, isNew: former === null };
  }

  /** Receipts wait under the message's own id. */
  #watch({ expect }: SendRequest, id: string): HintWatch | null {
    return expect === "none" ? null : this.#o.replies.watch(id);
  }

  /** Puts it into the inboxes. @throws RequestError where none took it. */
  async #store(
    request: SendRequest,
    data: string,
    id: string,
    posts: readonly Post[],
    put: (node: string, posted: Posted) => Promise<Placed>,
  ): Promise<Rows> {
    const message: Omit<Message, "to"> = {
      id,
      from: `${API_SENDER}${id}`,
      channel: request.channel,
      data,
      ref: null,
      re: null,
      receipt: request.expect === "none" ? null : { reply: id, asker: this.#o.replies.asker },
      hops: 0,
      sentAtMs: this.#o.nowMs(),
    };
    const placed = await Promise.all(
      posts.map(({ node, to }) =>
        put(node, { stitch: "stitch" in to ? to.stitch : "", body: JSON.stringify({ ...message, to }) }),
      ),
    );
    if (placed.every((each) => each === "gone"))
      throw new RequestError("no_recipient", "Its node has just been forgotten, with all of its stitches.");
    if (!placed.includes("stored"))
      throw new RequestError(
        "inbox_full",
        "Its inbox is full: it does not keep up with its messages. Send again later.",
      );
    return rowsOf(
      posts.flatMap(({ stitches }, index) =>
        stitches.map((stitch): DeliveryResource => {
          if (placed[index] === "stored") return { stitch, status: "accepted" };
          return { stitch, status: "rejected", code: placed[index] === "gone" ? "no_recipient" : "inbox_full" };
        }),
      ),
    );
  }

  /** Waits for receipts, until every delivery has come to its end or the time is up. @returns whether one came. */
  async #await({ expect, timeoutMs }: SendRequest, id: string, rows: Rows, watch: HintWatch): Promise<boolean> {
    const { redis, keys, nowMs } = this.#o;
    const untilMs = nowMs() + timeoutMs;
    const open = () =>
      [...rows.values()].filter(
        ({ status }) => status === "accepted" || status === "timeout" || (expect === "reply" && status === "acked"),
      );
    let seen = 0;
    while (open().length > 0) {
      const leftMs = untilMs - nowMs();
      if (leftMs > 0) await watch.next(Math.min(LOOK_MS, leftMs));
      const receipts = await readReceipts(redis, keys, id, seen);
      seen += receipts.length;
      for (const receipt of receipts) note(rows, receipt);
      if (leftMs > 0) continue;
      for (const { stitch } of open()) rows.set(stitch, { stitch, status: "timeout" });
      break;
    }
    return seen > 0;
  }

  async #postsFor(to: Recipient): Promise<Post[]> {
    if ("stitch" in to) return [toOne(await this.#addressable(to.stitch))];
    if ("oneOf" in to) return [toOne(await this.#oneOf(to.oneOf))];
    if ("group" in to) {
      const members = await receiversOf(this.#o.redis, this.#o.keys, to.group);
      if (members.length === 0)
        throw new RequestError("no_recipient", `No stitch of the group "${to.group}" takes messages.`);
      return [...Map.groupBy(members, (id) => splitFullId(id).node)].map(([node, ids]) => toSeveral(node, ids));
    }
    const { redis, keys } = this.#o;
    const [[node], { stitches }] = await Promise.all([
      readNodes(redis, keys, [to.node]),
      readOwnStitches(redis, keys, to.node),
    ]);
    if (node == null)
      throw new RequestError("no_recipient", `There is no node "${to.node}"; GET /v1/nodes lists them.`);
    const members = stitches.filter(({ spec }) => isAddressable(spec)).map(({ id }) => fullId(to.node, id));
    if (members.length === 0) throw new RequestError("no_recipient", `No stitch of ${to.node} takes messages.`);
    return [toSeveral(to.node, members)];
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
    const [members, nowMs] = await Promise.all([receiversOf(redis, keys, group), redisTimeMs(redis)]);
    const last = this.#turns.get(group) ?? "";
    const inTurn = [...members.filter((id) => id > last), ...members.filter((id) => id <= last)];
    for (let from = 0; from < inTurn.length; from += LOOKED_AT) {
      const found = await this.#firstWell(inTurn.slice(from, from + LOOKED_AT), nowMs);
      if (found === null) continue;
      this.#turns.set(group, found);
      return found;
    }
    throw new RequestError("no_recipient", `No stitch of the group "${group}" is green and takes messages.`);
  }

  /** The first that is green, on a node that lives: what a dead one has said last is not the health of anything. */
  async #firstWell(ids: readonly string[], nowMs: number): Promise<string | null> {
    const { redis, keys, deadAfterMs } = this.#o;
    const nodeIds = [...new Set(ids.map((id) => splitFullId(id).node))];
    const [records, nodes] = await Promise.all([readStitches(redis, keys, ids), readNodes(redis, keys, nodeIds)]);
    const alive = new Set(
      nodes.flatMap((node) => (node !== null && livenessOf(node, nowMs, deadAfterMs) === "alive" ? [node.id] : [])),
    );
    const isWell = (id: string, record: StitchRecord | null | undefined) =>
      record?.health === "green" && record.state === "running" && alive.has(splitFullId(id).node);
    return ids.find((id, index) => isWell(id, records[index])) ?? null;
  }

  /** Dead letters, node by node, the oldest of each first. */
  async deadLetters(page: Page, filter: DeadLetterFilter): Promise<ListResource<DeadLetterResource>> {
    const { redis, keys } = this.#o;
    const after = page.cursor === null ? null : decodeCursor(page.cursor, placeOrNull);
    const [nowMs, all] = await Promise.all([redisTimeMs(redis), nodesWithDeadLetters(redis, keys)]);
    const nodes = all.filter((node) => filter.node === undefined || node === filter.node);
    const rows: PlacedLetter[] = [];
    let characters = 0;
    const isFull = () => rows.length === page.limit || characters > PAGE_CHARACTERS;
    for (const node of nodes.filter((each) => after === null || each >= after.node)) {
      let from = after?.node === node ? after.entry : null;
      while (!isFull()) {
        const found = await listDeadLetters(
          redis,
          keys,
          node,
          from,
          Math.min(LETTERS_AT_ONCE, page.limit - rows.length),
        );
        rows.push(...found);
        characters += found.reduce((sum, { letter }) => sum + letter.data.length, 0);
        from = found.at(-1)?.entry ?? null;
        if (from === null) break;
      }
    }
    const last = isFull() ? rows.at(-1) : undefined;
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
    if (placed !== "stored")
      throw new RequestError("inbox_full", `The inbox of ${to}:${stitch} is full; try again later.`);
    await dropDeadLetter(redis, keys, node, entry);
    return { messageId, deliveries: [{ stitch: `${to}:${stitch}`, status: "accepted" }] };
  }

  async deleteDeadLetter(id: string): Promise<void> {
    const { node, entry } = placeOf(id);
    if (!(await dropDeadLetter(this.#o.redis, this.#o.keys, node, entry))) throw noLetter(id);
  }

  /**
   * What is in the inbox of a node that is being forgotten becomes dead letters, one for each stitch that it was for. Then
   * there is no inbox any more, and nobody can send to the node. Safe to repeat.
   * @param stitches the node's, as far as they are known: who is in a group.
   */
  async buryInbox(node: string, stitches: readonly StitchRecord[]): Promise<void> {
    const { redis, keys, nowMs } = this.#o;
    const code = "node_forgotten";
    const buried = { code, reason: "its node was forgotten before the message was taken", tries: 0 } as const;
    do {
      for (;;) {
        const entries = await readOldestEntries(redis, keys, node, BURIED_AT_ONCE);
        if (entries.length === 0) break;
        const rows = entries.flatMap(({ kind, body }) => {
          const message = kind === "message" ? readMessage(body) : null;
          return message === null
            ? []
            : recipientsOf(message, node, stitches).map((id) => ({ message, stitch: fullId(node, id) }));
        });
        const letters = rows.map(({ message: { id, from, channel, data }, stitch }): DeadLetter => {
          return { messageId: id, from, to: stitch, channel, data, ...buried, atMs: nowMs() };
        });
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
          acknowledgeEntries(redis, keys, node, entries),
        ]);
      }
    } while (!(await dropInbox(redis, keys, node)));
  }

  #newId(): string {
    return [...this.#o.randomBytes(16)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  }
}

const toOne = (id: string): Post => {
  const { node, stitch } = splitFullId(id);
  return { node, to: { stitch }, stitches: [id] };
};

/** Each is named: what was accepted for a stitch is brought after it, or is a dead letter, also where it has just gone. */
const toSeveral = (node: string, ids: readonly string[]): Post => ({
  node,
  to: { stitches: ids.map((id) => splitFullId(id).stitch) },
  stitches: [...ids],
});

const rowsOf = (deliveries: readonly DeliveryResource[]): Rows => new Map(deliveries.map((row) => [row.stitch, row]));

/** By their bare ids: whom a message in a node's inbox is for, as far as the node's stitches are known. */
function recipientsOf({ to, from }: Message, node: string, stitches: readonly StitchRecord[]): readonly string[] {
  if ("stitch" in to) return [to.stitch];
  if ("stitches" in to) return to.stitches;
  return stitches
    .filter(({ id, group, spec }) => isAddressable(spec) && groupContains(to.group, group) && fullId(node, id) !== from)
    .map(({ id }) => id);
}

/** The further a delivery got, the more it counts: one that is made again tells less than what was told before. */
const REACHED = ["accepted", "rejected", "timeout", "failed", "acked", "replied"] as const satisfies readonly Status[];

function note(rows: Rows, { stitch, status, code, data }: Receipt): void {
  const before = rows.get(stitch);
  if (before === undefined || REACHED.indexOf(before.status) >= REACHED.indexOf(status)) return;
  rows.set(stitch, {
    stitch,
    status,
    ...(code === undefined ? {} : { code }),
    ...(data === undefined ? {} : { data }),
  });
}

/** The answer, or where one stitch was asked what went wrong with it. */
function verdict({ to, expect }: SendRequest, messageId: string, rows: Rows): SentResource {
  const sent = { messageId, deliveries: [...rows.values()].sort((a, b) => (a.stitch < b.stitch ? -1 : 1)) };
  const [only] = sent.deliveries;
  if (only === undefined || expect === "none" || !("stitch" in to || "oneOf" in to)) return sent;
  if (only.status === "failed")
    throw new RequestError(
      "stitch_failed",
      `${only.stitch} did not take the message (${only.code ?? "failed"}); it is among the dead letters.`,
      sent,
    );
  if (expect === "reply" && only.status !== "replied")
    throw new RequestError("reply_timeout", "No reply came in time; the message is stored and may yet arrive.", sent);
  return sent;
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
