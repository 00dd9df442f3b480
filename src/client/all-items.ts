import type { ListResource } from "../domain/resources.ts";

/** More pages than any list here can have (10,000 nodes are 10): a server that never ends a list is cut off. */
const MAX_PAGES = 10_000;

/**
 * A whole list, page by page, as one.
 * @throws whatever `page` throws.
 */
export async function allItems<T>(
  page: (cursor: string | undefined) => Promise<ListResource<T>>,
): Promise<ListResource<T>> {
  const first = await page(undefined);
  const items = [...first.items];
  let cursor = first.nextCursor;
  for (let pages = 1; cursor !== null; pages++) {
    if (pages >= MAX_PAGES) throw new Error(`the list has more than ${MAX_PAGES} pages`);
    const next = await page(cursor);
    items.push(...next.items);
    cursor = next.nextCursor;
  }
  return { ...first, items, nextCursor: null };
}
