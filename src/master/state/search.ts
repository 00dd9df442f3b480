/** Most rows, and the longest time, for one page: a filter without a match must not block the API. */
const MOST_ROWS = 10_000;
const LONGEST_MS = 1000;

type Search<Place, Row extends Place, Item> = {
  /** Most items on the page. */
  readonly limit: number;
  /** Most rows read at once. */
  readonly atOnce: number;
  /** The page begins after this place; null: with the first row. */
  readonly after: Place | null;
  /** The next rows after a place; fewer than `count` only at the end of the list. */
  readonly read: (after: Place | null, count: number) => Promise<readonly Row[]>;
  /** What the page shows of each row; null for a row that does not match. */
  readonly view: (rows: readonly Row[]) => Promise<readonly (Item | null)[]>;
  /** Called with each item that is added: true if the page ends with this item, whatever the limit. */
  readonly fills?: (item: Item) => boolean;
  readonly nowMs: () => number;
};

/**
 * One page of a filtered list, with matches from anywhere in the list: the search goes on until the page is full, the list
 * has ended, 10,000 rows were read or a second has passed.
 * @returns `last`: the next page begins after this place; null at the end of the list.
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
  // The number of rows that fill a page is unknown: each round trip asks for twice as many as the one before.
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
