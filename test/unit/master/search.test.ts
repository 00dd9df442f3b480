import assert from "node:assert/strict";
import { test } from "node:test";
import { search } from "../../../src/master/state/search.ts";

/** A list of the numbers from 1 to `count`. */
function numbers(count: number, isWanted: (row: number) => boolean, nowMs: () => number = () => 0) {
  const read: number[] = [];
  const page = (limit: number, after: number | null = null, atOnce = 100) =>
    search({
      limit,
      atOnce,
      after,
      read: (from: number | null, most) => {
        const rows = Array.from({ length: Math.min(most, count - (from ?? 0)) }, (_, index) => (from ?? 0) + index + 1);
        read.push(rows.length);
        return Promise.resolve(rows);
      },
      view: (rows) => Promise.resolve(rows.map((row) => (isWanted(row) ? row : null))),
      nowMs,
    });
  return { read, page, looked: () => read.reduce((sum, rows) => sum + rows, 0) };
}

test("a page holds the rows that match, wherever they are", async () => {
  const list = numbers(5000, (row) => row > 4990);
  assert.deepEqual(await list.page(3), { items: [4991, 4992, 4993], last: 4993 });
  assert.deepEqual(await list.page(100, 4993), { items: [4994, 4995, 4996, 4997, 4998, 4999, 5000], last: null });
});

test("a page without a filter reads only the rows that it shows", async () => {
  const list = numbers(5000, () => true);
  assert.equal((await list.page(7)).last, 7);
  assert.deepEqual(list.read, [7]);
});

test("a search stops after 10,000 rows, and the next page goes on from there", async () => {
  const list = numbers(25_000, (row) => row === 24_000);
  const ends: unknown[] = [];
  for (let last: number | null = null, page = 0; page < 3; page++) {
    const { items, last: next } = await list.page(10, last);
    ends.push([items, next]);
    last = next;
  }
  assert.deepEqual(ends, [
    [[], 10_000],
    [[], 20_000],
    [[24_000], null],
  ]);
  assert.ok(Math.max(...list.read) <= 100, "a bound on what is read at once");
});

test("a search stops after a second", async () => {
  let nowMs = 0;
  const list = numbers(
    25_000,
    () => false,
    () => (nowMs += 100),
  );
  const { items, last } = await list.page(100);
  assert.deepEqual([items, last], [[], 1000]);
});

test("lists each match exactly once, whatever the page size and however many rows are read at once", async () => {
  for (const limit of [1, 2, 3, 7, 50]) {
    for (const atOnce of [1, 3, 20, 100]) {
      const list = numbers(200, (row) => row % 3 === 0 || row > 190);
      const all: number[] = [];
      for (let last: number | null = null, ended = false; !ended; ) {
        const page = await list.page(limit, last, atOnce);
        assert.ok(page.items.length <= limit);
        all.push(...page.items);
        ({ last } = page);
        ended = last === null;
      }
      const expected = Array.from({ length: 200 }, (_, index) => index + 1).filter((row) => row % 3 === 0 || row > 190);
      assert.deepEqual(all, expected, `${limit} of ${atOnce}`);
    }
  }
});

test("an item can fill the page before its limit", async () => {
  const { items, last } = await search({
    limit: 10,
    atOnce: 10,
    after: null,
    read: (_: number | null, count) => Promise.resolve(Array.from({ length: count }, (__, index) => index)),
    view: (rows) => Promise.resolve(rows),
    fills: (item) => item === 4,
    nowMs: () => 0,
  });
  assert.deepEqual([items, last], [[0, 1, 2, 3, 4], 4]);
});
