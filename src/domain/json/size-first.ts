import * as z from "zod";

/**
 * A list or a record whose size is checked before its elements. zod's own size checks come last: zod would check each of two
 * million elements, and report each.
 * @param what the elements, as in "at most 256 arguments".
 */
export const sizeFirst = <Schema extends z.ZodType<object>>(max: number, what: string, schema: Schema) =>
  z.preprocess((value: z.input<Schema>, context) => {
    if (sizeOf(value) <= max) return value;
    context.addIssue(`at most ${max} ${what}`);
    return z.NEVER;
  }, schema);

function sizeOf(value: unknown): number {
  if (Array.isArray(value)) return value.length;
  return typeof value === "object" && value !== null ? Object.keys(value).length : 0;
}
