import * as z from "zod";
import { groupName } from "./names/group.ts";
import { nodeId, parseStitchRef, stitchId, stitchRef } from "./names/ids.ts";
import { sizeFirst } from "./json/size-first.ts";

/** The most data that a message may carry, in bytes of UTF-8. */
export const MAX_DATA_BYTES = 1024 * 1024;
/** How often a message is passed on after a stitch that has moved, at most: tombstones may point in a circle. */
export const MAX_HOPS = 5;
/** Deliveries of one message to one stitch, before it becomes a dead letter. */
export const MAX_TRIES = 5;
/** The sender of a message over HTTP begins with this. No node can have this id. */
export const API_SENDER = "api:";
/** The sender, for counting: all messages over HTTP count as one sender. */
export const senderOf = ({ from }: { readonly from: string }): string =>
  from.startsWith(API_SENDER) ? API_SENDER : from;

/** Channel names that begin with `_` belong to the system. */
const anyChannel = z
  .string()
  .refine((name) => !name.startsWith("_"), 'must not begin with "_": those channels are the system\'s');
export const channel = anyChannel.max(128);

const json: z.ZodType<unknown> = z.unknown().refine((value) => value !== undefined, "is missing");

/** A body of 4 MiB has room for hundreds of thousands of fields, and each alternative would look at all of them. */
const MAX_FIELDS = 20;

/** The recipient of a client's message. */
export const recipient = sizeFirst(
  MAX_FIELDS,
  "fields",
  z.union(
    [
      z.strictObject({ stitch: stitchRef }),
      z.strictObject({ group: groupName }),
      z.strictObject({ oneOf: groupName }),
      z.strictObject({ node: nodeId }),
    ],
    { error: 'must be one of {"stitch": …}, {"group": …}, {"oneOf": …}, {"node": …}, with a valid name' },
  ),
);
export type Recipient = z.output<typeof recipient>;

/** A message as a client sends it. */
export const sendRequest = sizeFirst(
  MAX_FIELDS,
  "fields",
  z
    .strictObject({
      to: recipient,
      channel: channel.default(""),
      data: json,
      expect: z.enum(["none", "ack", "reply"]).default("none"),
      timeoutMs: z.int().min(1).max(60_000).default(5000),
    })
    .refine(({ to, expect }) => expect !== "reply" || "stitch" in to || "oneOf" in to, {
      path: ["expect"],
      message: 'one stitch alone can reply: "reply" goes with {"stitch": …} or {"oneOf": …}',
    }),
);
export type SendRequest = z.output<typeof sendRequest>;

/** Data as it is sent: a string as it is, anything else as its JSON text (process-v1.md, "Node → stitch"). */
export const dataText = (data: unknown): string => (typeof data === "string" ? data : JSON.stringify(data));

const MESSAGE_ID = /^[A-Za-z0-9][A-Za-z0-9.-]*$/;
const messageId = z.string().regex(MESSAGE_ID, "is not the id of a message");
const isSender = (from: string): boolean =>
  from.startsWith(API_SENDER)
    ? MESSAGE_ID.test(from.slice(API_SENDER.length))
    : typeof parseStitchRef(from)?.node === "string";
const sender = z.string().refine(isSender, "is neither a stitch's full id nor a request to the API");

/**
 * A message in a node's inbox. `to`: a stitch of that node by its bare id, several stitches, or the members of a group on that
 * node when the message comes. `from`: a full id, or `api:<id>`.
 *
 * Every node may write into every inbox. So the reader refuses again what the sender's own node would have refused: on the
 * channel `_exit`, a message would end a stitch of another node.
 */
const message = z.object({
  /** The same for every recipient and every delivery. */
  id: messageId,
  from: sender,
  to: z.union([
    z.object({ stitch: stitchId }),
    z.object({ stitches: z.array(stitchId) }),
    z.object({ group: groupName }),
  ]),
  /** The sender gave a bare id: the message is for the stitch that has this id now, on any node. */
  bare: z.literal(true).optional(),
  channel: anyChannel,
  data: z.string(),
  /** The sender's own number for the message, to recognise the answer; null if the sender wants no answer. */
  ref: z.number().nullable(),
  /** The message answers the one that its recipient sent under this number. */
  re: z.number().nullable(),
  /**
   * Set if a process waits for receipts: the id of the reply, and that process. `stitch`: the full id under which the process
   * knows the recipient, if the recipient has moved.
   */
  receipt: z.object({ reply: z.string(), asker: z.string(), stitch: z.string().optional() }).nullable(),
  hops: z.int().min(0),
  /** When a stitch gave the message to its node, by Redis's clock. null: when it was put into the inbox, as its entry says. */
  sentAtMs: z.number().nullable(),
});
export type Message = z.output<typeof message>;

/** Reads a message from its JSON text, or says why it is not a message. The reason quotes nothing of the text. */
export function readMessage(text: string): { readonly message: Message } | { readonly wrong: string } {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return { wrong: "it is not JSON" };
  }
  const { data, error } = message.safeParse(value);
  if (data !== undefined) return { message: data };
  const [issue] = error.issues;
  return { wrong: `${issue?.path.join(".") || "it"} ${issue?.message ?? "is no message"}` };
}

/** Why a message could not be delivered. */
export const DEAD_CODES = [
  "no_recipient",
  "not_addressable",
  "not_acknowledged",
  "stitch_failed",
  "inbox_full",
  "too_many_hops",
  "node_forgotten",
] as const;
export type DeadCode = (typeof DEAD_CODES)[number];

/** A message kept with the reason after its last delivery failed. `to`: the full id it was for; `bare`: as in the message. */
export const deadLetter = z.object({
  messageId,
  from: sender,
  to: z.string(),
  bare: z.literal(true).optional(),
  channel: anyChannel,
  data: z.string(),
  code: z.enum(DEAD_CODES),
  reason: z.string(),
  tries: z.int(),
  atMs: z.number(),
});
export type DeadLetter = z.output<typeof deadLetter>;

/** The part of a message that is kept as a dead letter, for any recipient. */
export const asLetter = (
  { id: messageId, from, bare, channel, data }: Omit<Message, "to">,
  why: Pick<DeadLetter, "code" | "reason" | "tries" | "atMs">,
): Omit<DeadLetter, "to"> => ({ messageId, from, bare, channel, data, ...why });

/** What became of one delivery, for the process that waits. `stitch`: a full id. */
export const receipt = z.object({
  stitch: z.string(),
  status: z.enum(["acked", "replied", "failed"]),
  code: z.string().optional(),
  data: z.string().optional(),
});
export type Receipt = z.output<typeof receipt>;
