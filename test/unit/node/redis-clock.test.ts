import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { RedisClock } from "../../../workers/node/membership/redis-clock.ts";

test("uses the machine's clock until Redis has told its time, and not after that", () => {
  let [wallMs, steadyMs] = [1000, 50];
  const clock = new RedisClock({ nowMs: () => wallMs, steadyNowMs: () => steadyMs });
  assert.equal(clock.nowMs(), 1000);
  clock.told(5000, 50);
  assert.equal(clock.nowMs(), 5000);
  wallMs += 600_000;
  steadyMs += 20;
  assert.equal(clock.nowMs(), 5020);
});

test("an answer that is read late does not set the clock back", () => {
  let steadyMs = 0;
  const clock = new RedisClock({ nowMs: () => 0, steadyNowMs: () => steadyMs });
  clock.told(1_000_000, 0);
  const askedAtMs = (steadyMs = 2000);
  // Redis answered at once, but the event loop was blocked for five seconds.
  steadyMs += 5000;
  clock.told(1_002_000, askedAtMs);
  assert.equal(clock.nowMs(), 1_007_000);
});

test("the clock is never further off than the time that the last answer was on its way", () => {
  const answers = fc.array(
    fc.record({
      restMs: fc.nat(10_000),
      thereMs: fc.nat(5000),
      backMs: fc.nat(5000),
      jumpMs: fc.integer({ min: -50_000, max: 50_000 }),
    }),
    { minLength: 1 },
  );
  fc.assert(
    fc.property(answers, (all) => {
      let steadyMs = 0;
      // Redis's clock may be set, or another Redis may answer.
      let redisAheadMs = 1_000_000;
      const clock = new RedisClock({ nowMs: () => 0, steadyNowMs: () => steadyMs });
      for (const { restMs, thereMs, backMs, jumpMs } of all) {
        steadyMs += restMs;
        redisAheadMs += jumpMs;
        const askedAtMs = steadyMs;
        steadyMs += thereMs;
        const toldMs = steadyMs + redisAheadMs;
        steadyMs += backMs;
        clock.told(toldMs, askedAtMs);
        assert.ok(Math.abs(clock.nowMs() - (steadyMs + redisAheadMs)) <= Math.max(thereMs, backMs));
      }
    }),
  );
});
