import * as z from "zod";
import type { Page } from "../master/ports.ts";
import type { ApiContext } from "./deps.ts";
import { invalidFields, invalidRequest } from "./problem.ts";

/** A whole number in the text of a parameter. */
export const wholeNumber = (min: number, max: number) =>
  z
    .string()
    .regex(/^\d{1,6}$/, "must be a whole number")
    .transform(Number)
    .pipe(z.int().min(min).max(max));

/** The parameters of every list. */
export const pageQuery = {
  limit: wholeNumber(1, 1000).default(100),
  cursor: z.string().min(1).max(1000).optional(),
};
/** Answer when the job ends, or after this many milliseconds. */
export const waitQuery = z.strictObject({ waitMs: wholeNumber(0, 60_000).default(0) });
export const noQuery = z.strictObject({});

/** The query, checked: an unknown or repeated parameter is as wrong as a bad value. @throws RequestError `invalid_request`. */
export function readQuery<Schema extends z.ZodObject>(c: ApiContext, schema: Schema): z.output<Schema> {
  // Not with Hono's own parser, which loses a parameter named `__proto__`.
  const given = new Map<string, string>();
  const repeated = new Set<string>();
  for (const [name, value] of new URL(c.req.url).searchParams) {
    if (given.has(name)) repeated.add(name);
    given.set(name, value);
  }
  if (repeated.size > 0)
    throw invalidFields([...repeated].map((path) => ({ path, message: "is given more than once" })));
  const parsed = schema.safeParse(Object.fromEntries(given));
  if (!parsed.success) throw invalidRequest(parsed.error);
  return parsed.data;
}

/** A part of the path, checked. @throws RequestError `invalid_request` naming it. */
export function readPath(c: ApiContext, name: string, schema: z.ZodType<string>): string {
  const parsed = schema.safeParse(c.req.param(name));
  if (parsed.success) return parsed.data;
  throw invalidFields(parsed.error.issues.map(({ message }) => ({ path: name, message })));
}

export const pageOf = (query: { limit: number; cursor?: string | undefined }): Page => ({
  limit: query.limit,
  cursor: query.cursor ?? null,
});
