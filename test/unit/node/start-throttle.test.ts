import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { type Place, StartThrottle } from "../../../workers/node/stitches/start-throttle.ts";

const PLACES = 50;
const HELD_MS = 1000;
const NEVER = new Promise<never>(() => undefined);

/** `count` starts that have asked, and the order in which they got their places. */
function asking(t: TestContext, count: number) {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const throttle = new StartThrottle();
  const places: Place[] = [];
  const granted: number[] = [];
  for (let index = 0; index < count; index++) {
    const place = throttle.ask();
    places.push(place);
    void place.granted.then((may) => may && granted.push(index));
  }
  return { throttle, places, granted };
}

const settled = () => new Promise((resolve) => setImmediate(resolve));
const upTo = (count: number) => Array.from({ length: count }, (_, index) => index);

test("grants a fixed number of places at once, first come, first served", async (t) => {
  const { places, granted } = asking(t, PLACES + 2);
  await settled();
  assert.deepEqual(granted, upTo(PLACES));
  assert.deepEqual([places[PLACES - 1]?.isHeld, places[PLACES]?.isHeld], [true, false]);
  places[7]?.giveBack();
  places[7]?.giveBack();
  await settled();
  assert.deepEqual(granted, upTo(PLACES + 1), "one for one, given back twice or not");
});

test("a start that came up or failed lets the next one begin; one that hangs does so after a second", async (t) => {
  const { places, granted } = asking(t, 2 * PLACES + 2);
  places[0]?.holdUntil(Promise.resolve());
  places[1]?.holdUntil(Promise.reject(new Error("it failed")));
  for (const place of places.slice(2, PLACES)) place.holdUntil(NEVER);
  await settled();
  assert.deepEqual(granted, upTo(PLACES + 2));
  t.mock.timers.tick(HELD_MS - 1);
  await settled();
  assert.deepEqual(granted, upTo(PLACES + 2));
  t.mock.timers.tick(1);
  await settled();
  assert.deepEqual(granted, upTo(2 * PLACES), "the second is counted from when the start has begun");
});

test("a wait can be cancelled: it is not granted, and those behind it move up", async (t) => {
  const { places, granted } = asking(t, PLACES + 2);
  places[PLACES]?.giveBack();
  assert.equal(await places[PLACES]?.granted, false);
  places[0]?.giveBack();
  await settled();
  assert.deepEqual(granted, [...upTo(PLACES), PLACES + 1]);
});

test("close ends every wait, grants nothing more and leaves no timer", async (t) => {
  const { throttle, places } = asking(t, PLACES + 1);
  places[0]?.holdUntil(NEVER);
  const timers = t.mock.method(globalThis, "clearTimeout");
  throttle.close();
  throttle.close();
  assert.ok(timers.mock.callCount() > 0);
  assert.equal(await places[PLACES]?.granted, false);
  assert.equal(await throttle.ask().granted, false);
  assert.ok(places.every(({ isHeld }) => !isHeld));
});
