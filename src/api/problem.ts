import { HTTPException } from "hono/http-exception";
import type { ContentfulStatusCode } from "hono/utils/http-status";
import type * as z from "zod";
import { ERRORS, RequestError } from "../domain/errors.ts";
import { type Invalid, invalidOf } from "../domain/json/invalid.ts";
import { asRequestError } from "../redis/connection/connection.ts";
import type { ApiContext } from "./deps.ts";

/** When a client may try again after a 429 or 503, in seconds: Redis may be back, or another API answers. */
const RETRY_AFTER_S = 1;

/** Most bytes of an error answer, whatever the client sent and however large the cluster is. */
const MAX_BYTES = 64 * 1024;
/** Most wrong fields in one answer. */
const MAX_ERRORS = 20;
/** Most characters of a field's path: the sender chooses its names. */
const MAX_PATH = 200;
/** Most items of each list in an answer that would be too large, such as the reasons of ten thousand nodes. */
const MAX_LISTED = 100;

/** The error for a request that does not match its schema: the wrong fields, and what they must be. */
export function invalidRequest(error: z.ZodError): RequestError {
  return invalidFields(invalidOf(error, MAX_ERRORS));
}

export function invalidFields(fields: readonly Invalid[]): RequestError {
  const errors = fields.slice(0, MAX_ERRORS).map(({ path, message }) => ({ path: cut(path), message }));
  const [first] = errors;
  const more = errors.length > 1 ? ` (and ${errors.length - 1} more: see errors)` : "";
  const detail = first === undefined ? "The request is not valid." : `${first.path || "body"}: ${first.message}${more}`;
  return new RequestError("invalid_request", detail, { errors });
}

const cut = (path: string): string => (path.length <= MAX_PATH ? path : `${path.slice(0, MAX_PATH)}…`);

/** The error that the client gets. Any unexpected error becomes `internal`, and its message stays in the log. */
export function requestErrorOf(error: unknown): RequestError {
  if (error instanceof HTTPException && error.res?.headers.has("www-authenticate"))
    return new RequestError("unauthenticated", "Send the API's token as `Authorization: Bearer <token>`.");
  const known = asRequestError(error);
  if (known instanceof RequestError) return known;
  return new RequestError(
    "internal",
    "The request could not be answered; the API's log has the reason under this requestId.",
    {},
    { cause: error },
  );
}

/** The one place where an error becomes an answer (RFC 9457). */
export function problemAnswer({ code, message, facts }: RequestError, requestId: string) {
  const { status, title, retryable } = ERRORS[code];
  const type = `urn:crossstitch:error:${code}`;
  const body = { type, title, status, detail: message, code, requestId, retryable, ...facts };
  const headers: Record<string, string> = { "Content-Type": "application/problem+json" };
  if (status === 429 || status === 503) headers["Retry-After"] = String(RETRY_AFTER_S);
  return { text: bounded(body), status: status satisfies ContentfulStatusCode, headers };
}

/** The document as JSON. If that is too large, its lists are cut, and `truncated` says so. */
function bounded(document: Readonly<Record<string, unknown>>): string {
  let text = JSON.stringify(document);
  for (let most = MAX_LISTED; most > 0 && new TextEncoder().encode(text).length > MAX_BYTES; most >>= 1)
    text = JSON.stringify({ ...document, truncated: true }, (_key, value: unknown) =>
      Array.isArray(value) ? value.slice(0, most) : value,
    );
  return text;
}

/** The answer for an error outside of any route. */
export function problemResponse(error: unknown): Response {
  const requestId = crypto.randomUUID();
  const { text, status, headers } = problemAnswer(requestErrorOf(error), requestId);
  return new Response(text, { status, headers: { ...headers, "X-Request-Id": requestId } });
}

/** The answer of a route that fails. */
export function problem(c: ApiContext, error: unknown): Response {
  const { text, status, headers } = problemAnswer(requestErrorOf(error), c.get("requestId"));
  if (error instanceof HTTPException) {
    const challenge = error.res?.headers.get("www-authenticate");
    if (challenge != null) headers["WWW-Authenticate"] = challenge;
  }
  return c.body(text, status, headers);
}
