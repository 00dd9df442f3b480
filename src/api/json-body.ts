import { RequestError } from "../domain/errors.ts";
import type { ApiContext } from "./deps.ts";

/** The body as JSON, of no checked shape yet. @throws RequestError `unsupported_media_type`, `invalid_json`. */
export async function readJson(c: ApiContext): Promise<unknown> {
  const type = (c.req.header("content-type") ?? "").split(";")[0]?.trim().toLowerCase();
  if (type !== "application/json")
    throw new RequestError("unsupported_media_type", "Send the body as JSON with `Content-Type: application/json`.");
  try {
    return JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(await c.req.arrayBuffer()), refuseProto);
  } catch (error) {
    if (error instanceof RequestError) throw error;
    throw new RequestError("invalid_json", `The body is not valid JSON: ${whyNot(error)}.`, {}, { cause: error });
  }
}

function whyNot(error: unknown): string {
  if (error instanceof SyntaxError) return error.message.replace(/,? ?".*$/s, "");
  // The parser, or the walk over what it found, ran out of stack.
  return error instanceof RangeError ? "it is nested too deeply" : "it is not UTF-8";
}

/** A key that schemas drop without a word: what was asked would silently be something else. */
function refuseProto(key: string, value: unknown): unknown {
  if (key === "__proto__")
    throw new RequestError("invalid_request", 'The key "__proto__" is not allowed.', {
      errors: [{ path: "__proto__", message: "is not allowed as a key" }],
    });
  return value;
}
