import type { ProblemResource } from "../contract/problem.ts";
import type { ErrorCode } from "../domain/errors.ts";
import { errorText } from "../error-text.ts";

/** Thrown when the API answered with an error. Branch on `code`. */
export class ApiError extends Error {
  override readonly name = "ApiError";
  readonly status: number;
  /** One of those in docs/http.md; a newer API may have others. */
  readonly code: ErrorCode | (string & Record<never, never>);
  readonly detail: string;
  /** The answer's body, with the fields that belong to the code (`candidates`, `refusals`, …). */
  readonly problem: ProblemResource;
  /** From `Retry-After`, in milliseconds; null if the API gave none. */
  readonly retryAfterMs: number | null;

  constructor(problem: ProblemResource, retryAfterMs: number | null) {
    super(`${problem.detail} (${problem.code})`);
    this.status = problem.status;
    this.code = problem.code;
    this.detail = problem.detail;
    this.problem = problem;
    this.retryAfterMs = retryAfterMs;
  }
}

/** Thrown when nothing answers at `url`. Unless `refused` is true, the API may still have accepted a command. */
export class ApiUnreachable extends Error {
  override readonly name = "ApiUnreachable";
  readonly url: string;
  /** true: nothing took the request (nothing listens, no such host). false: the connection broke, or was too slow. */
  readonly refused: boolean;

  constructor(url: string, reason: string, cause?: unknown) {
    super(`no answer from ${url}: ${reason}`, { cause });
    this.url = url;
    this.refused = NEVER_SENT.has(codeOf(cause) ?? "");
  }
}

const NEVER_SENT = new Set(["ECONNREFUSED", "ENOTFOUND", "EAI_AGAIN", "EHOSTUNREACH", "ENETUNREACH"]);

/** Thrown when something answers at `url` that is not this API: another program, or a proxy while the API is away. */
export class NotTheApi extends Error {
  override readonly name = "NotTheApi";
  readonly url: string;
  /** The status of the answer. null: a stream began as it should, and what came in it is not of this API. */
  readonly status: number | null;

  constructor(url: string, reason: string, status: number | null) {
    super(`what answers at ${url} is not a CrossStitch API: ${reason}`);
    this.url = url;
    this.status = status;
  }
}

/**
 * Is the API away, and may it be back soon? Nothing answered, the API said 503, or a proxy said with an answer of its own
 * that it has no API to ask (502 to 504, and Cloudflare's 520 to 527).
 */
export function isAway(error: unknown): boolean {
  if (error instanceof ApiUnreachable) return true;
  if (error instanceof ApiError) return error.status === 503;
  return error instanceof NotTheApi && error.status !== null && isOfProxy(error.status);
}

/** Does a proxy answer with this status when it got no answer, or none in time, from what is behind it? */
export const isOfProxy = (status: number): boolean =>
  (status >= 502 && status <= 504) || (status >= 520 && status <= 527);

/** Did the API, or a proxy before it, refuse the request only because there are too many of them now? */
export function isRateLimited(error: unknown): error is ApiError | NotTheApi {
  return (error instanceof ApiError || error instanceof NotTheApi) && error.status === 429;
}

/** The deepest message of a failed `fetch`; the error itself only says "fetch failed". */
export function reasonOf(error: unknown): string {
  return errorText(deepestOf(error));
}

function codeOf(error: unknown): string | null {
  const deepest = deepestOf(error);
  return deepest instanceof Error && "code" in deepest && typeof deepest.code === "string" ? deepest.code : null;
}

function deepestOf(error: unknown): unknown {
  let deepest = error;
  for (let depth = 0; depth < 5 && deepest instanceof Error && deepest.cause !== undefined; depth++) {
    deepest = deepest.cause;
  }
  // One error per address that was tried.
  return deepest instanceof AggregateError ? deepest.errors[0] : deepest;
}
