import * as z from "zod";

/** A number for each of the names. Not a record: in the document each name is a property of its own. */
export function counts<const Name extends string>(names: readonly Name[]): z.ZodObject<Record<Name, z.ZodInt>> {
  return z.object(Object.fromEntries(names.map((name) => [name, z.int()])) as Record<Name, z.ZodInt>);
}
