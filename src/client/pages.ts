import type { ListResource } from "../contract/list.ts";

/** More pages than any list can have (10,000 nodes are 10 pages): stops a list that the server never ends. */
const MAX_PAGES = 10_000;

/** Most items in one page. */
const MOST_IN_PAGE = 1000;

export type Page = {
  /** The most items that the list returns; each list names its default. */
  readonly limit?: number | undefined;
  /** `nextCursor` of the list before, to continue it: with the same filter. */
  readonly cursor?: string | undefined;
};

/**
 * The first `limit` items of a list, as one page: a page of the API has at most 1000, and a filtered one may be short although
 * more items follow.
 * @param read gets one page of the API.
 * @param joined `backwards`: for a list whose pages go back in time, while each page is in order of time.
 * @throws whatever `read` throws.
 */
export async function readPages<T>(
  { limit, cursor }: { readonly limit: number; readonly cursor: string | undefined },
  read: (page: Page) => Promise<ListResource<T>>,
  joined: "as-read" | "backwards" = "as-read",
): Promise<ListResource<T>> {
  const first = await read({ limit: Math.min(limit, MOST_IN_PAGE), cursor });
  const pages = [first.items];
  let count = first.items.length;
  let next = first.nextCursor;
  while (next !== null && count < limit) {
    if (pages.length >= MAX_PAGES) throw new Error(`the list has more than ${MAX_PAGES} pages`);
    const page = await read({ limit: Math.min(limit - count, MOST_IN_PAGE), cursor: next });
    pages.push(page.items);
    count += page.items.length;
    next = page.nextCursor;
  }
  return { ...first, items: (joined === "backwards" ? pages.toReversed() : pages).flat(), nextCursor: next };
}
