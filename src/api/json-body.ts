import { pause } from "../bounded-wait.ts";
import { RequestError } from "../domain/errors.ts";
import { jsonSize } from "../domain/json/json-size.ts";
import { errorText } from "../error-text.ts";
import type { ApiContext } from "./deps.ts";

/** Deeper than any body that a person or a program sends on purpose. */
const MAX_DEPTH = 100;
/** The largest bodies take about 100 ms in total: above this size, other requests run between the parts of that work. */
const LARGE_CHARACTERS = 64 * 1024;

/**
 * The body as JSON; its shape is not checked yet.
 * @param maxTokens most tokens of the body (see `jsonSize`), counted before it is parsed.
 * @throws RequestError `unsupported_media_type`, `invalid_json`, `too_large`.
 */
export async function readJson(c: ApiContext, maxTokens: number): Promise<unknown> {
  const type = (c.req.header("content-type") ?? "").split(";")[0]?.trim().toLowerCase();
  if (type !== "application/json")
    throw new RequestError("unsupported_media_type", "Send the body as JSON with `Content-Type: application/json`.");
  const text = decode(await c.req.arrayBuffer());
  const turn = (): Promise<void> | null => (text.length > LARGE_CHARACTERS ? pause(0) : null);
  const { depth, tokens } = jsonSize(text, { depth: MAX_DEPTH, tokens: maxTokens });
  if (depth > MAX_DEPTH) throw invalidJson(`it is nested too deeply: at most ${MAX_DEPTH} levels`);
  if (tokens > maxTokens)
    throw new RequestError(
      "too_large",
      `The body has more than ${maxTokens} JSON tokens (strings, opening brackets, commas, colons).`,
    );
  await turn();
  const body = parse(text);
  await turn();
  if (MAY_HAVE_PROTO.test(text) && hasProto(body))
    throw new RequestError("invalid_request", 'The key "__proto__" is not allowed.', {
      errors: [{ path: "__proto__", message: "is not allowed as a key" }],
    });
  await turn();
  return body;
}

function decode(bytes: ArrayBuffer): string {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch (error) {
    throw invalidJson("it is not UTF-8", error);
  }
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    // Leaves out what the parser quotes from the body.
    const why = errorText(error).replace(/,? ?".*$/s, "");
    throw invalidJson(why, error);
  }
}

const invalidJson = (why: string, cause?: unknown) =>
  new RequestError("invalid_json", `The body is not valid JSON: ${why}.`, {}, { cause });

/** The text has `__proto__` as it is, or escaped; without either, no walk over the whole body is needed. */
const MAY_HAVE_PROTO = /__proto__|\\u/;

/** Is there a key `__proto__`? Schemas drop that key silently, so the request would mean something else. */
function hasProto(value: unknown): boolean {
  if (typeof value !== "object" || value === null) return false;
  if (Array.isArray(value)) return value.some(hasProto);
  if (Object.hasOwn(value, "__proto__")) return true;
  // Takes half the time of `Object.values`; the largest message would need a hundred thousand of those calls.
  for (const name in value) if (hasProto(value[name as keyof typeof value])) return true;
  return false;
}
