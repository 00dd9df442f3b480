import * as z from "zod";
import type { ApiContext } from "./deps.ts";
import { invalidFields } from "./problem.ts";

export const idempotencyKey = z.string().regex(/^[\x20-\x7e]{1,128}$/, "must be 1 to 128 printable ASCII characters");

/** The `Idempotency-Key` of a request, checked; null if it has none. @throws RequestError `invalid_request`. */
export function readKey(c: ApiContext): string | null {
  const header = c.req.header("idempotency-key");
  if (header === undefined) return null;
  const key = idempotencyKey.safeParse(header);
  if (key.success) return key.data;
  throw invalidFields(key.error.issues.map(({ message }) => ({ path: "Idempotency-Key", message })));
}
