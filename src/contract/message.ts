import * as z from "zod";
import { DEAD_CODES } from "../domain/message.ts";
import type { Resource } from "./resource.ts";
import { time } from "./time.ts";

/** What became of a message for one stitch. `data`: the reply, as text. */
export const deliveryResource = z.object({
  /** Full id. */
  stitch: z.string(),
  status: z.enum(["accepted", "acked", "failed", "replied", "timeout", "rejected"]),
  code: z.string().optional(),
  data: z.string().optional(),
});
export type DeliveryResource = Resource<typeof deliveryResource>;

/** A message that was sent: `POST /v1/messages`. */
export const sentResource = z.object({ messageId: z.string(), deliveries: z.array(deliveryResource) });
export type SentResource = Resource<typeof sentResource>;

/** A message that could not be delivered. */
export const deadLetterResource = z.object({
  id: z.string(),
  messageId: z.string(),
  /** The node that could not deliver it. */
  node: z.string(),
  /** Full id of the recipient. */
  stitch: z.string(),
  from: z.string(),
  channel: z.string(),
  data: z.string(),
  code: z.enum(DEAD_CODES),
  reason: z.string(),
  tries: z.int(),
  at: time,
});
export type DeadLetterResource = Resource<typeof deadLetterResource>;
