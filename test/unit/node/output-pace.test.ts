import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import fc from "fast-check";
import { OutputPace } from "../../../workers/node/logs/output-pace.ts";

const SHARE = 0.1;
/** A debt smaller than this is not collected. */
const LEAST_OWED_MS = 0.5;

/** What one stream has to read: `workMs` at a time. There is more after `idleMs`. */
type Stream = { readonly workMs: number; readonly idleMs: number; readonly slices: number };

/** One worker that reads streams at a pace, one slice at a time like an event loop, under the test's own clock. */
class Reading {
  readonly readMs: number[];
  readonly pausedMs: number[];
  nowMs = 0;
  readonly #t: TestContext;
  readonly #pace = new OutputPace(() => this.nowMs);
  readonly #readers: ReturnType<OutputPace["reader"]>[];
  readonly #streams: readonly Stream[];
  readonly #left: number[];
  readonly #ready: number[];

  constructor(t: TestContext, streams: readonly Stream[]) {
    this.#t = t;
    this.#streams = streams;
    this.#readers = streams.map(() => this.#pace.reader());
    this.readMs = streams.map(() => 0);
    this.pausedMs = streams.map(() => 0);
    this.#left = streams.map(({ slices }) => slices);
    this.#ready = streams.map((_, index) => index);
  }

  get totalMs(): number {
    return this.readMs.reduce((sum, ms) => sum + ms, 0);
  }

  /** Reads until `endMs`. If nothing is ready, the clock goes on. */
  async until(endMs: number): Promise<void> {
    while (this.nowMs < endMs) {
      const next = this.#ready.shift();
      if (next === undefined) await this.#pass(1);
      else await this.#read(next);
    }
  }

  async #pass(ms: number): Promise<void> {
    this.nowMs += ms;
    this.#t.mock.timers.tick(ms);
    for (let turn = 0; turn < 4; turn++) await Promise.resolve();
  }

  async #read(index: number): Promise<void> {
    const { workMs, idleMs } = this.#streams[index] ?? assert.fail();
    if ((this.#left[index] ?? 0) <= 0) return;
    this.#left[index] = (this.#left[index] ?? 0) - 1;
    await this.#pass(workMs);
    this.readMs[index] = (this.readMs[index] ?? 0) + workMs;
    const pause = this.#readers[index]?.spent(workMs) ?? null;
    const sinceMs = this.nowMs;
    const on = () => {
      this.pausedMs[index] = (this.pausedMs[index] ?? 0) + this.nowMs - sinceMs;
      if (idleMs === 0) this.#ready.push(index);
      else setTimeout(() => this.#ready.push(index), idleMs);
    };
    if (pause === null) on();
    else void pause.then(on);
  }
}

const reading = (t: TestContext, streams: readonly Stream[]): Reading => {
  t.mock.timers.reset();
  t.mock.timers.enable({ apis: ["setTimeout"] });
  return new Reading(t, streams);
};
const flood = (workMs: number, slices = Number.POSITIVE_INFINITY): Stream => ({ workMs, idleMs: 0, slices });

for (const count of [1, 2, 3, 20, 300]) {
  test(`${count} flooding streams take a tenth of the time together, each as much as the others`, async (t) => {
    const floods = reading(
      t,
      Array.from({ length: count }, () => flood(2)),
    );
    await floods.until(20_000 + 40 * count);
    const share = floods.totalMs / floods.nowMs;
    assert.ok(share > 0.8 * SHARE && share < SHARE + (2 * count) / floods.nowMs, `${share}`);
    const [least, most] = [Math.min(...floods.readMs), Math.max(...floods.readMs)];
    assert.ok(most - least <= 4, `${least} to ${most} ms`);
  });
}

test("keeps the share whatever the pattern: each stream is at most one slice ahead of it", async (t) => {
  const streams = fc.array(
    fc.record({
      workMs: fc.double({ min: 0.01, max: 10, noNaN: true }),
      idleMs: fc.oneof(fc.constant(0), fc.integer({ min: 1, max: 2000 })),
      slices: fc.oneof(fc.constant(Number.POSITIVE_INFINITY), fc.integer({ min: 1, max: 50 })),
    }),
    { minLength: 1, maxLength: 20 },
  );
  await fc.assert(
    fc.asyncProperty(streams, async (all) => {
      const mixed = reading(t, all);
      await mixed.until(4000);
      const aheadMs = all.reduce((sum, { workMs }) => sum + workMs + LEAST_OWED_MS, 0);
      assert.ok(mixed.totalMs <= SHARE * mixed.nowMs + aheadMs, `${mixed.totalMs} of ${mixed.nowMs} ms`);
    }),
    { numRuns: 15 },
  );
});

test("streams that print little are not delayed, however many others flood", async (t) => {
  // 0.03 ms is a line or two.
  const little = { workMs: 0.03, idleMs: 200, slices: Number.POSITIVE_INFINITY };
  const both = reading(t, [little, ...Array.from({ length: 100 }, () => flood(2))]);
  await both.until(30_000);
  assert.equal(both.pausedMs[0], 0);
});

test("a flood that ends leaves its time to the others at once", async (t) => {
  const both = reading(t, [flood(2), ...Array.from({ length: 50 }, () => flood(2, 1))]);
  // Fifty-one slices of 2 ms take a second of the share. After that, one stream is left.
  await both.until(1200);
  const before = both.readMs[0] ?? 0;
  await both.until(11_200);
  const alone = ((both.readMs[0] ?? 0) - before) / 10_000;
  assert.ok(alone > 0.8 * SHARE, `${alone}`);
});

test("a hiccup of the machine during a read delays a stitch by at most a second", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  let nowMs = 5000;
  const pause = new OutputPace(() => nowMs).reader().spent(3000) ?? assert.fail("no pause");
  let over = false;
  void pause.then(() => (over = true));
  nowMs += 1000;
  t.mock.timers.tick(1000);
  await Promise.resolve();
  assert.ok(over);
});
