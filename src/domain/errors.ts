/**
 * The one catalogue of request errors: code → HTTP status, title, and whether the same request may succeed if sent again
 * unchanged. Clients branch on the code; the detail is for people and says what to do next.
 */
export const ERRORS = {
  invalid_request: { status: 400, title: "The request is not valid", retryable: false },
  invalid_json: { status: 400, title: "The body is not valid JSON", retryable: false },
  unknown_command: { status: 400, title: "There is no such command", retryable: false },
  unauthenticated: { status: 401, title: "A valid token is needed", retryable: false },
  forbidden: { status: 403, title: "This is not allowed", retryable: false },
  not_found: { status: 404, title: "Not found", retryable: false },
  no_recipient: { status: 404, title: "There is nobody to receive this", retryable: false },
  method_not_allowed: { status: 405, title: "The route does not take this method", retryable: false },
  request_timeout: { status: 408, title: "The request did not come in time", retryable: true },
  ambiguous_stitch: { status: 409, title: "Several stitches have this id", retryable: false },
  stitch_exists: { status: 409, title: "A stitch with this id exists", retryable: false },
  idempotency_conflict: { status: 409, title: "The idempotency key was used with another body", retryable: false },
  placement_failed: { status: 409, title: "No node can take this", retryable: false },
  plan_stale: { status: 409, title: "The plan is no longer what would happen", retryable: false },
  group_busy: { status: 409, title: "Another job works on this group", retryable: true },
  job_finished: { status: 409, title: "The job has finished", retryable: false },
  not_reversible: { status: 409, title: "This cannot be reversed", retryable: false },
  not_addressable: { status: 409, title: "The stitch takes no messages", retryable: false },
  spec_unknown: { status: 409, title: "The spec of this stitch is not known", retryable: false },
  no_template: { status: 409, title: "The group has no known spec", retryable: false },
  node_alive: { status: 409, title: "The node is alive", retryable: false },
  events_gone: { status: 410, title: "These events are no longer kept", retryable: false },
  too_large: { status: 413, title: "The body is too large", retryable: false },
  unsupported_media_type: { status: 415, title: "The body must be JSON", retryable: false },
  rate_limited: { status: 429, title: "Too many requests", retryable: true },
  inbox_full: { status: 429, title: "The recipient's inbox is full", retryable: true },
  headers_too_large: { status: 431, title: "The request line and headers are too large", retryable: false },
  internal: { status: 500, title: "Something broke in the API", retryable: false },
  unsupported: { status: 501, title: "The platform of this API cannot do this", retryable: false },
  stitch_failed: { status: 502, title: "The stitch reported a failure", retryable: false },
  redis_unavailable: { status: 503, title: "Redis does not answer", retryable: true },
  no_leader: { status: 503, title: "There is no leader", retryable: true },
  wrong_mode: { status: 503, title: "The Masters of this cluster have another mode", retryable: true },
  shutting_down: { status: 503, title: "This API is shutting down", retryable: true },
  node_unreachable: { status: 504, title: "The node does not answer", retryable: true },
  reply_timeout: { status: 504, title: "No reply in time", retryable: true },
} as const;

export type ErrorCode = keyof typeof ERRORS;

/** Facts beside the message: `candidates`, `refusals`, `plan`, `jobId`, `errors`, … They become fields of the problem. */
export type ErrorFacts = Readonly<Record<string, unknown>>;

/** Thrown when a request cannot be answered as asked. Mapped to problem+json in one place (`src/api/problem.ts`). */
export class RequestError extends Error {
  override readonly name = "RequestError";
  readonly code: ErrorCode;
  readonly facts: ErrorFacts;
  constructor(code: ErrorCode, detail: string, facts: ErrorFacts = {}, options?: { cause?: unknown }) {
    super(detail, options);
    this.code = code;
    this.facts = facts;
  }
}

/** Why a step or task did not succeed. Written by a node beside its outcomes, or by a Master for a step that never ran. */
export const STEP_CODES = [
  "node_dead",
  "node_left",
  "spawn_failed",
  "exited_early",
  "start_timeout",
  "unhealthy",
  "capacity_exceeded",
  "superseded",
  "stale_leader",
  "spec_unknown",
  "expired",
  "cancelled",
  "internal",
] as const;
