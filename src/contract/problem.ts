import * as z from "zod";
import { ERRORS, type ErrorCode } from "../domain/errors.ts";
import { sentResource } from "./message.ts";
import { planResource } from "./plan.ts";
import { refusalResource } from "./refusal.ts";
import type { Resource } from "./resource.ts";

/** An error (RFC 9457, `application/problem+json`). Clients branch on `code`. */
export const problemResource = z.object({
  /** `urn:crossstitch:error:<code>` */
  type: z.string(),
  title: z.string(),
  status: z.int(),
  detail: z.string(),
  code: z.enum(Object.keys(ERRORS) as ErrorCode[]),
  requestId: z.string(),
  retryable: z.boolean(),
  /** The lists of the problem are cut, each to the same length: they would make the problem too large. */
  truncated: z.boolean().exactOptional(),
  /** For `invalid_request`: the wrong fields, at most 20. */
  errors: z.array(z.object({ path: z.string(), message: z.string() })).exactOptional(),
  /** For `ambiguous_stitch`: the full ids that the reference could mean. */
  candidates: z.array(z.string()).exactOptional(),
  /** For `placement_failed`. */
  refusals: z.array(refusalResource).exactOptional(),
  /** For `plan_stale`: the plan as it is now. */
  plan: planResource.exactOptional(),
  /** For `group_busy`: the job that holds the group. */
  jobId: z.string().exactOptional(),
  /** For `wrong_mode`: the mode of the cluster, and some of its Masters. */
  mode: z.string().exactOptional(),
  masters: z.array(z.string()).exactOptional(),
  /** For `not_found`: the full id that a moved stitch has now. */
  movedTo: z.string().exactOptional(),
  /** For `stitch_failed` and `reply_timeout`: the message, and what became of it. */
  messageId: sentResource.shape.messageId.exactOptional(),
  deliveries: sentResource.shape.deliveries.exactOptional(),
});
export type ProblemResource = Resource<typeof problemResource>;
