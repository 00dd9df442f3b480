/** Rows looked at for one page, and how long: a filter that nothing matches must not hold up the API. */
const MOST_ROWS = 10_000;
const LONGEST_MS = 1000;

type Search<Place, Row extends Place, Item> = {
  /** Items of the page, at most. */
  readonly limit: number;
  /** Rows read at once, at most. */
  readonly atOnce: number;
  /** Where the page begins: after this; null: with the first row. */
  readonly after: Place | null;
  /** The next rows after a place; fewer than `count` only at the end of the list. */
  readonly read: (after: Place | null, count: number) => Promise<readonly Row[]>;
  /** What the page shows of each row; null where it is not wanted. */
  readonly view: (rows: readonly Row[]) => Promise<readonly (Item | null)[]>;
  /** Told of each item as it is taken: true where the page ends with it, whatever the limit. */
  readonly fills?: (item: Item) => boolean;
  readonly nowMs: () => number;
};

/**
 * One page of a filtered list. It holds what matches, wherever it is: the search goes on until the page is full, the list has
 * ended, 10,000 rows were looked at or a second has passed.
 * @returns `last`: where the next page begins, after this; null at the end of the list.
 */
export async function search<Place, Row extends Place, Item>({
  limit,
  atOnce,
  after,
  read,
  view,
  fills = () => false,
  nowMs,
}: Search<Place, Row, Item>): Promise<{ items: Item[]; last: Place | null }> {
  const untilMs = nowMs() + LONGEST_MS;
  const items: Item[] = [];
  let last = after;
  // Nobody knows how many rows fill a page: each round trip asks for twice as many as the one before.
  for (let take = Math.min(limit, atOnce), left = MOST_ROWS; ; take = Math.min(2 * take, atOnce)) {
    const count = Math.min(take, left);
    const rows = await read(last, count);
    const isEnd = rows.length < count;
    const views = await view(rows);
    for (const [index, row] of rows.entries()) {
      last = row;
      const item = views[index] ?? null;
      if (item === null) continue;
      items.push(item);
      if (fills(item) || items.length === limit)
        return { items, last: isEnd && index === rows.length - 1 ? null : row };
    }
    left -= rows.length;
    if (isEnd) return { items, last: null };
    if (left === 0 || nowMs() >= untilMs) return { items, last };
  }
}
