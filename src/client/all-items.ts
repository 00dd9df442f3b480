import type { ListResource } from "../contract/list.ts";

/** More pages than any list can have (10,000 nodes are 10 pages): stops a list that the server never ends. */
const MAX_PAGES = 10_000;

type Page<T> = (cursor: string | undefined) => Promise<ListResource<T>>;

/**
 * Reads a whole list, page by page, and returns it as one page.
 * @throws whatever `page` throws.
 */
export function allItems<T>(page: Page<T>): Promise<ListResource<T>> {
  return firstItems(Number.POSITIVE_INFINITY, (_, cursor) => page(cursor));
}

/** Most items in one page. */
const MOST_IN_PAGE = 1000;

/**
 * The first `limit` items of a list, as one page: a filtered page may be short although more items follow.
 * @param page gets the number of items that are still wanted, at most 1000, and returns no more than that.
 * @throws whatever `page` throws.
 */
export async function firstItems<T>(
  limit: number,
  page: (left: number, cursor: string | undefined) => Promise<ListResource<T>>,
): Promise<ListResource<T>> {
  const first = await page(Math.min(limit, MOST_IN_PAGE), undefined);
  const items = [...first.items];
  let cursor = first.nextCursor;
  for (let pages = 1; cursor !== null && items.length < limit; pages++) {
    if (pages >= MAX_PAGES) throw new Error(`the list has more than ${MAX_PAGES} pages`);
    const next = await page(Math.min(limit - items.length, MOST_IN_PAGE), cursor);
    items.push(...next.items);
    cursor = next.nextCursor;
  }
  return { ...first, items, nextCursor: cursor };
}
