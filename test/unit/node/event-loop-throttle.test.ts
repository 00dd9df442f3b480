import assert from "node:assert/strict";
import { test } from "node:test";
import { EventLoopThrottle } from "../../../workers/node/stitches/event-loop-throttle.ts";

/** How many of `count` pieces of work, each of `tookMs`, begin in each turn of the event loop. */
async function turnsOf(count: number, tookMs: number): Promise<number[]> {
  let nowMs = 0;
  const turns = new EventLoopThrottle(() => nowMs);
  const begun: number[] = [];
  const work = Array.from({ length: count }, async (_, index) => {
    await turns.next();
    // The work goes on in microtasks, like most of a step.
    await Promise.resolve();
    nowMs += tookMs;
    begun.push(index);
  });
  const each: number[] = [];
  for (let before = 0; before < count; before = begun.length) {
    await new Promise((resolve) => setImmediate(resolve));
    if (begun.length > before) each.push(begun.length - before);
    assert.ok(each.length <= count);
  }
  await Promise.all(work);
  assert.deepEqual(
    begun,
    begun.toSorted((a, b) => a - b),
  );
  return each;
}

test("work that costs almost nothing begins many at a time, work that blocks begins alone", async () => {
  assert.deepEqual(await turnsOf(100, 0), [1, 2, 4, 8, 16, 32, 32, 5]);
  assert.deepEqual(await turnsOf(5, 10), [1, 1, 1, 1, 1]);
  assert.deepEqual(await turnsOf(6, 3), [1, 2, 1, 2]);
});
