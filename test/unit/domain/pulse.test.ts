import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { type Look, type Pulse, pulseAfter } from "../../../src/domain/node/pulse.ts";

const HEARTBEAT_MS = 2000;
const FIRST: Look = { steadyMs: 100_000, redisMs: 5_000_000, replid: "a" };
const after = (looks: readonly Look[]): Pulse | null =>
  looks.reduce<Pulse | null>((pulse, look) => pulseAfter(pulse, look, HEARTBEAT_MS), null);

test("a pulse goes on while Redis is read often enough and the clocks agree", () => {
  const gaps = fc.array(fc.record({ gapMs: fc.nat(HEARTBEAT_MS), driftMs: fc.integer({ min: -500, max: 500 }) }));
  fc.assert(
    fc.property(gaps, (steps) => {
      const looks = [FIRST];
      for (const { gapMs, driftMs } of steps) {
        const last = looks.at(-1) ?? FIRST;
        looks.push({ ...last, steadyMs: last.steadyMs + gapMs, redisMs: last.redisMs + gapMs + driftMs });
      }
      assert.equal(after(looks)?.sinceMs, FIRST.steadyMs);
    }),
  );
});

for (const [what, next] of [
  ["nothing was read for longer than a heartbeat", { steadyMs: HEARTBEAT_MS + 1, redisMs: HEARTBEAT_MS + 1 }],
  ["Redis's clock was set forward", { steadyMs: 1000, redisMs: 1501 }],
  ["Redis's clock was set back", { steadyMs: 1000, redisMs: 499 }],
  ["another Redis is the primary", { steadyMs: 1000, redisMs: 1000, replid: "b" }],
] as const)
  test(`a pulse begins anew where ${what}`, () => {
    const look = {
      replid: "replid" in next ? next.replid : FIRST.replid,
      steadyMs: FIRST.steadyMs + next.steadyMs,
      redisMs: FIRST.redisMs + next.redisMs,
    };
    assert.equal(after([FIRST, look])?.sinceMs, look.steadyMs);
  });
