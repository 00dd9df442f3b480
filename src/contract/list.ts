import * as z from "zod";
import type { Resource } from "./resource.ts";
import { time } from "./time.ts";

const page = z.object({
  /** The client sends it back as `cursor` for the next page. */
  nextCursor: z.string().nullable(),
  /** Redis's time at the read. */
  asOf: time,
});

/** A page of a list. Only `nextCursor: null` ends a list; a filtered page may be short. */
export const listOf = <Item extends z.ZodType>(item: Item) => z.object({ items: z.array(item), ...page.shape });
export type ListResource<Item> = { readonly items: readonly Item[] } & Resource<typeof page>;
