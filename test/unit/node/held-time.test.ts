import assert from "node:assert/strict";
import { test } from "node:test";
import { HeldTime } from "../../../workers/node/sending/held-time.ts";

function start() {
  const clock = { nowMs: 1000 };
  const held = new HeldTime(() => clock.nowMs);
  const wait = () => {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const done = held.during(promise).catch(() => undefined);
    return { end: () => (resolve(), done), fail: () => (reject(new Error("not sent")), done) };
  };
  return { clock, held, wait };
}

test("a wait counts from the moment when it is no longer short, also while it lasts", async () => {
  const { clock, held, wait } = start();
  const { end } = wait();
  clock.nowMs += 99;
  assert.deepEqual([held.isHeld, held.totalMs], [false, 0]);
  clock.nowMs += 901;
  assert.deepEqual([held.isHeld, held.totalMs], [true, 900]);
  await end();
  clock.nowMs += 5000;
  assert.deepEqual([held.isHeld, held.totalMs], [false, 900]);
  const again = wait();
  clock.nowMs += 300;
  await again.fail();
  assert.equal(held.totalMs, 1100);
});

test("many short waits, one after the other or at once, do not count", async () => {
  const { clock, held, wait } = start();
  for (let n = 0; n < 100; n++) {
    const [one, other] = [wait(), wait()];
    clock.nowMs += 50;
    await one.end();
    clock.nowMs += 40;
    await other.end();
  }
  assert.equal(held.totalMs, 0);
});

test("waits at the same time count once", async () => {
  const { clock, held, wait } = start();
  const first = wait();
  clock.nowMs += 500;
  const second = wait();
  clock.nowMs += 500;
  assert.equal(held.totalMs, 900);
  await second.end();
  assert.equal(held.totalMs, 900);
  clock.nowMs += 500;
  assert.equal(held.totalMs, 1400);
  await first.end();
  assert.equal(held.totalMs, 1400);
  const third = wait();
  clock.nowMs += 200;
  await third.end();
  assert.equal(held.totalMs, 1500);
});
