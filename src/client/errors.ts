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

/** Thrown when something answers at `url` that is not this API: a proxy's page, another program. */
export class NotTheApi extends Error {
  override readonly name = "NotTheApi";
  readonly url: string;

  constructor(url: string, reason: string) {
    super(`what answers at ${url} is not a CrossStitch API: ${reason}`);
    this.url = url;
  }
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
