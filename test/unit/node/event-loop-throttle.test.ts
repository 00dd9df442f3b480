import assert from "node:assert/strict";
import { test } from "node:test";
import { EventLoopThrottle } from "../../../workers/node/stitches/event-loop-throttle.ts";

/** How many of `count` pieces of work, of which each takes so long, begin in each turn of the event loop. */
async function turnsOf(count: number, tookMs: number): Promise<number[]> {
  let nowMs = 0;
  const turns = new EventLoopThrottle(() => nowMs);
  const begun: number[] = [];
  const work = Array.from({ length: count }, async (_, index) => {
    await turns.next();
    // What it does goes on in microtasks, like most of a step.
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

test("what costs next to nothing begins many in a turn, what blocks begins alone", async () => {
  assert.deepEqual(await turnsOf(100, 0), [1, 2, 4, 8, 16, 32, 32, 5]);
  assert.deepEqual(await turnsOf(5, 10), [1, 1, 1, 1, 1]);
  assert.deepEqual(await turnsOf(6, 3), [1, 2, 1, 2]);
});
