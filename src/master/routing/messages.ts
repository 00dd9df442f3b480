import { canonicalJson } from "../../domain/json/canonical-json.ts";
import { RequestError } from "../../domain/errors.ts";
import { parseStitchRef } from "../../domain/names/ids.ts";
import {
  API_SENDER,
  asLetter,
  dataText,
  MAX_DATA_BYTES,
  type Message,
  type Receipt,
  type SendRequest,
} from "../../domain/message.ts";
import type { DeliveryResource, SentResource } from "../../contract/message.ts";
import type { RedisClient } from "../../redis/connection/client.ts";
import type { HintWatch } from "../../redis/hint-watchers.ts";
import { type PutResult, type Posted, putMessageOnce, putMessages } from "../../redis/inbox/put-messages.ts";
import type { Keys } from "../../redis/keys.ts";
import { redisTimeMs } from "../../redis/node/node-record.ts";
import {
  claimMessage,
  forgetMessage,
  type MessageRecord,
  type Post,
  readMessageRecord,
  rememberMessage,
} from "../../redis/inbox/message-record.ts";
import { dropReceipts, readReceipts } from "../../redis/inbox/receipts.ts";
import type { ReplyHints } from "../../redis/inbox/reply-hints.ts";
import { sha256Hex } from "../../domain/json/digest.ts";
import type { Sent } from "../ports.ts";
import type { Recipients } from "./recipients.ts";

/** How often to look for receipts while waiting, even without a hint. */
const LOOK_MS = 1000;

export type MessagesOptions = {
  readonly redis: RedisClient;
  readonly keys: Keys;
  readonly replies: ReplyHints;
  readonly recipients: Recipients;
  readonly nowMs: () => number;
  readonly randomBytes: (count: number) => Uint8Array;
  /** Takes what goes on after an answer. */
  readonly late: { add(work: Promise<unknown>): void };
};

type Status = DeliveryResource["status"];
/** The deliveries of a message, by the stitch's full id. */
type Rows = Map<string, DeliveryResource>;

/** Duty 4: sends messages of clients to stitches, and waits for the receipts. */
export class Messages {
  readonly #options: MessagesOptions;

  constructor(options: MessagesOptions) {
    this.#options = options;
  }

  /**
   * Sends a message and waits for what `expect` asks for.
   * @throws RequestError `no_recipient`, `ambiguous_stitch`, `not_addressable`, `too_large`, `inbox_full`; to one stitch
   *   also `stitch_failed` and `reply_timeout`; `idempotency_conflict`.
   */
  async send(request: SendRequest, idempotencyKey: string | null, scope: string): Promise<Sent> {
    const data = dataText(request.data);
    if (new TextEncoder().encode(data).length > MAX_DATA_BYTES)
      throw new RequestError("too_large", `The data of a message is at most ${MAX_DATA_BYTES} bytes.`);
    if (idempotencyKey !== null) return this.#sendOnce(request, data, idempotencyKey, scope);
    const { redis, keys } = this.#options;
    const id = this.#newId();
    // First, so that the subscription begins while the recipients are looked up.
    const watch = this.#watch(request, id);
    let isStored = false;
    try {
      const posts = await this.#options.recipients.of(request.to);
      const rows = await this.#store(request, data, id, posts, (node, posted) =>
        putMessages(redis, keys, node, [posted]).then(([placed = "full"]) => placed),
      );
      isStored = true;
      if (watch !== null) await this.#await(request, id, rows, watch);
      return { sent: verdict(request, id, rows), replayed: false };
    } finally {
      watch?.stop();
      // Nobody reads the receipts any more. Later ones, and those that stay because this fails, expire by themselves.
      if (watch !== null && isStored) this.#options.late.add(dropReceipts(redis, keys, id));
    }
  }

  /**
   * Sends a message with an idempotency key. The recipients are decided and recorded first, and each inbox takes the message
   * once. So another call with the same key, at the same time or after a sender died, does only what is left to do.
   */
  async #sendOnce(request: SendRequest, data: string, key: string, scope: string): Promise<Sent> {
    const { redis, keys } = this.#options;
    const id = (await sha256Hex(JSON.stringify(["message", keys.cluster, scope, key]))).slice(0, 32);
    const bodyHash = await sha256Hex(canonicalJson(request));
    const known = await readMessageRecord(redis, keys, id);
    const { record, isNew } =
      known === null
        ? await this.#claim(id, { bodyHash, posts: await this.#options.recipients.of(request.to), deliveries: null })
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
    const former = await claimMessage(this.#options.redis, this.#options.keys, id, mine);
    return { record: former ?? mine, isNew: former === null };
  }

  /** Receipts are stored under the message's own id. */
  #watch({ expect }: SendRequest, id: string): HintWatch | null {
    return expect === "none" ? null : this.#options.replies.watch(id);
  }

  /** Puts a message into the inboxes. @throws RequestError if no inbox took it. */
  async #store(
    request: SendRequest,
    data: string,
    id: string,
    posts: readonly Post[],
    put: (node: string, posted: Posted) => Promise<PutResult>,
  ): Promise<Rows> {
    const isBare = "stitch" in request.to && parseStitchRef(request.to.stitch)?.node === null;
    const message: Omit<Message, "to"> = {
      ...(isBare ? { bare: true } : {}),
      id,
      from: `${API_SENDER}${id}`,
      channel: request.channel,
      data,
      ref: null,
      re: null,
      receipt: request.expect === "none" ? null : { reply: id, asker: this.#options.replies.asker },
      hops: 0,
      sentAtMs: null,
    };
    const posted = posts.map(({ to }): Posted => {
      return { stitch: "stitch" in to ? to.stitch : "", body: JSON.stringify({ ...message, to }) };
    });
    const placed = await Promise.all(posted.map((each, index) => put(posts[index]?.node ?? "", each)));
    if (placed.every((each) => each === "gone"))
      throw new RequestError("no_recipient", "Its node has just been forgotten, with all of its stitches.");
    if (!placed.includes("stored"))
      throw new RequestError(
        "inbox_full",
        "Its inbox is full: it does not keep up with its messages. Send again later.",
      );
    // Other inboxes have the message, so the client must not send it again: for an absent node without room, a dead letter
    // keeps it.
    const { redis, keys } = this.#options;
    const letter = asLetter(message, {
      code: "inbox_full",
      reason: "its node is away, and the inbox there is full",
      tries: 0,
      atMs: placed.includes("away") ? await redisTimeMs(redis, keys.deadLetterNodes) : 0,
    });
    const rows = await Promise.all(
      posts.map(async ({ node, stitches }, index): Promise<DeliveryResource[]> => {
        const each = posted[index];
        const how =
          placed[index] === "away" && each !== undefined
            ? await put(node, { ...each, burial: { to: stitches, letter } })
            : placed[index];
        return stitches.map((stitch) => {
          if (how === "stored") return { stitch, status: "accepted" };
          if (how === "buried") return { stitch, status: "failed", code: "inbox_full" };
          return { stitch, status: "rejected", code: how === "gone" ? "no_recipient" : "inbox_full" };
        });
      }),
    );
    return rowsOf(rows.flat());
  }

  /** Waits for receipts, until every delivery has ended or the time is up. @returns whether a receipt came. */
  async #await({ expect, timeoutMs }: SendRequest, id: string, rows: Rows, watch: HintWatch): Promise<boolean> {
    const { redis, keys, nowMs } = this.#options;
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

  #newId(): string {
    return [...this.#options.randomBytes(16)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  }
}

const rowsOf = (deliveries: readonly DeliveryResource[]): Rows => new Map(deliveries.map((row) => [row.stitch, row]));

/** Statuses in rising order. A later status stays: a delivery that is repeated may report less than the first one. */
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

/** The answer; for a message to one stitch, throws if the delivery failed or no reply came. */
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
