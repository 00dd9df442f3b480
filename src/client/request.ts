import type { ProblemResource } from "../contract/problem.ts";
import { ApiError, ApiUnreachable, isOfProxy, NotTheApi, reasonOf } from "./errors.ts";

/** How long the API may take to answer, in addition to the wait that the request asks for. */
const ANSWER_MS = 15_000;

export type Query = Readonly<Record<string, string | number | undefined>>;

export type Request = {
  readonly method?: "GET" | "POST" | "DELETE";
  readonly path: string;
  /** Values that are undefined are left out. */
  readonly query?: Query;
  readonly body?: unknown;
  /** The wait that the body asks for (default: `query.waitMs`). */
  readonly waitMs?: number;
  readonly headers?: Readonly<Record<string, string>> | undefined;
  /** What the body of the answer must be (default `object`); `nothing`: it is not looked at. */
  readonly answer?: "object" | "list" | "nothing";
  readonly signal?: AbortSignal | undefined;
};

export type Transport = {
  readonly url: string;
  readonly token: string | null;
  readonly fetch: typeof globalThis.fetch;
};

/**
 * Sends one request and reads the whole answer, within the wait that the request asks for plus 15 s.
 * @throws ApiError, ApiUnreachable, NotTheApi; the signal's reason if it was aborted.
 */
export async function request(transport: Transport, asked: Request): Promise<{ body: unknown; headers: Headers }> {
  const waitMs = asked.waitMs ?? Number(asked.query?.["waitMs"] ?? 0);
  const timeout = AbortSignal.timeout(waitMs + ANSWER_MS);
  try {
    const response = await open(transport, asked, timeout);
    const text = await response.text();
    return { body: bodyOf(transport.url, asked.answer ?? "object", response.status, text), headers: response.headers };
  } catch (error) {
    throw translated(transport.url, error, timeout, asked.signal);
  }
}

/**
 * Sends one request. The caller reads the body of the answer as it comes, until `ended` aborts.
 * @throws as `request`; the caller translates errors while reading the body.
 */
export async function open(transport: Transport, asked: Request, ended: AbortSignal): Promise<Response> {
  const url = new URL(transport.url + asked.path);
  for (const [name, value] of Object.entries(asked.query ?? {})) {
    if (value !== undefined) url.searchParams.set(name, String(value));
  }
  const headers = new Headers({ accept: "application/json", ...asked.headers });
  if (transport.token !== null) headers.set("authorization", `Bearer ${transport.token}`);
  if (asked.body !== undefined) headers.set("content-type", "application/json");
  const response = await transport.fetch(url, {
    method: asked.method ?? "GET",
    headers,
    body: asked.body === undefined ? null : JSON.stringify(asked.body),
    // A redirect would send the token and the command to another place.
    redirect: "manual",
    signal: asked.signal === undefined ? ended : AbortSignal.any([ended, asked.signal]),
  });
  if (!response.ok) throw await failure(transport.url, response);
  return response;
}

/** The error that the caller gets: the signal's reason after an abort, `ApiUnreachable` for a failed connection. */
export function translated(url: string, error: unknown, ended: AbortSignal, signal: AbortSignal | undefined): unknown {
  if (error instanceof ApiError || error instanceof ApiUnreachable || error instanceof NotTheApi) return error;
  if (signal?.aborted === true) return signal.reason;
  if (ended.aborted) return new ApiUnreachable(url, "it did not answer in time", error);
  return new ApiUnreachable(url, reasonOf(error), error);
}

async function failure(url: string, response: Response): Promise<Error> {
  const { status } = response;
  const type = response.headers.get("content-type") ?? "";
  const text = await response.text();
  if (!type.startsWith("application/problem+json")) {
    const why = isOfProxy(status) ? "; a proxy answers so while the API behind it is away" : "";
    return new NotTheApi(url, `status ${status} with ${type === "" ? "no content type" : type}${why}`, status);
  }
  const problem = parse(url, text, status);
  if (!isProblem(problem))
    return new NotTheApi(url, `a problem of status ${status} without code, status and detail`, status);
  return new ApiError(problem, retryAfterMs(response.headers.get("retry-after")));
}

/** Checks no more than what tells another program from this API: of the rest, the API's own tests make sure. */
function bodyOf(url: string, expected: NonNullable<Request["answer"]>, status: number, text: string): unknown {
  if (expected === "nothing") return null;
  if (text === "") throw new NotTheApi(url, `status ${status} without a body`, status);
  const body = parse(url, text, status);
  if (!isObject(body)) throw new NotTheApi(url, "its body is not a JSON object", status);
  if (expected === "list" && !isList(body))
    throw new NotTheApi(url, "its body is not a list with items and nextCursor", status);
  return body;
}

const isObject = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === "object" && value !== null && !Array.isArray(value);

const isProblem = (value: unknown): value is ProblemResource =>
  isObject(value) &&
  typeof value["code"] === "string" &&
  typeof value["status"] === "number" &&
  typeof value["detail"] === "string";

const isList = ({ items, nextCursor }: Readonly<Record<string, unknown>>): boolean =>
  Array.isArray(items) && (typeof nextCursor === "string" || nextCursor === null);

/** @throws NotTheApi with this status. */
export function parse(url: string, text: string, status: number | null): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new NotTheApi(url, `its body is not JSON (${reasonOf(error)})`, status);
  }
}

/** The API sends seconds; a proxy in between may send a date, which counts as none. */
function retryAfterMs(header: string | null): number | null {
  return header !== null && /^\d{1,6}$/.test(header) ? Number(header) * 1000 : null;
}
