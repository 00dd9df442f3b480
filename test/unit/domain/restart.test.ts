import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { afterExit, stableAfterMs } from "../../../src/domain/stitch/restart.ts";
import { type RestartPolicy, restartPolicy } from "../../../src/domain/stitch/spec.ts";

const policyOf = (over: Partial<RestartPolicy> = {}): RestartPolicy => restartPolicy.parse(over);
const policies = fc.record({
  policy: fc.constantFrom("always", "on-failure", "never"),
  maxRestarts: fc.integer({ min: 0, max: 20 }),
  windowMs: fc.integer({ min: 1000, max: 86_400_000 }),
  backoffMs: fc.integer({ min: 10, max: 3_600_000 }),
  maxBackoffMs: fc.integer({ min: 10, max: 3_600_000 }),
});
const randoms = fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true });

for (const [policy, well, restarts, expected] of [
  ["always", true, 0, "again"],
  ["always", true, 4, "again"],
  ["always", true, 5, "failed"],
  ["always", false, 0, "again"],
  ["always", false, 4, "again"],
  ["always", false, 5, "failed"],
  ["on-failure", true, 0, "stopped"],
  ["on-failure", true, 5, "stopped"],
  ["on-failure", false, 0, "again"],
  ["on-failure", false, 4, "again"],
  ["on-failure", false, 5, "failed"],
  ["never", true, 0, "stopped"],
  ["never", true, 5, "stopped"],
  ["never", false, 0, "failed"],
  ["never", false, 5, "failed"],
] as const) {
  test(`${policy}, ended ${well ? "well" : "badly"} after ${restarts} of 5 restarts: ${expected}`, () => {
    for (const ranMs of [null, 0, 59_999]) {
      const next = afterExit(policyOf({ policy }), well, ranMs, restarts, 0.5);
      assert.equal(next.kind, expected);
      if (next.kind === "again") assert.equal(next.restarts, restarts + 1);
    }
  });
}

test("says why a stitch is not started again", () => {
  const reason = (over: Partial<RestartPolicy>, restarts: number) => {
    const next = afterExit(policyOf(over), false, 10, restarts, 0);
    return next.kind === "failed" ? next.reason : assert.fail(next.kind);
  };
  assert.match(reason({ policy: "never" }, 0), /its restart policy is never/);
  assert.match(reason({}, 5), /a crash loop: it was restarted 5 times and never ran for 60000 ms/);
  assert.match(reason({ maxRestarts: 0 }, 0), /allows no restart/);
});

test("the delay doubles from backoffMs up to maxBackoffMs, and its last quarter is random", () => {
  const delays = (random: number) =>
    [0, 1, 2, 3, 4, 5, 6, 7].map((restarts) => {
      const next = afterExit(policyOf({ maxRestarts: 100 }), false, 0, restarts, random);
      return next.kind === "again" ? next.inMs : assert.fail(next.kind);
    });
  assert.deepEqual(delays(0), [375, 750, 1500, 3000, 6000, 12_000, 22_500, 22_500]);
  assert.deepEqual(delays(0.999_999_9), [500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000]);
});

test("every delay is within [0.75, 1] of min(maxBackoffMs, backoffMs × 2^n), whatever the policy", () => {
  fc.assert(
    fc.property(policies, fc.nat(20_000), randoms, (policy, restarts, random) => {
      const next = afterExit({ ...policy, maxRestarts: 20_001 }, false, 0, restarts, random);
      if (next.kind !== "again") return assert.equal(policy.policy, "never");
      const wholeMs = Math.min(policy.maxBackoffMs, policy.backoffMs * 2 ** restarts);
      assert.ok(Number.isInteger(next.inMs));
      assert.ok(next.inMs >= Math.floor(0.75 * wholeMs) && next.inMs <= wholeMs, `${next.inMs} of ${wholeMs}`);
    }),
  );
});

test("a run that lasted windowMs resets the count of restarts; a start that never ran does not", () => {
  fc.assert(
    fc.property(policies, fc.boolean(), fc.nat(30), fc.nat(), randoms, (policy, well, restarts, moreMs, random) => {
      const after = (ranMs: number | null, before: number) => afterExit(policy, well, ranMs, before, random);
      const stableMs = stableAfterMs(policy);
      assert.deepEqual(after(stableMs, restarts), after(0, 0));
      assert.deepEqual(after(stableMs + moreMs, restarts), after(0, 0));
      assert.deepEqual(after(stableMs - 1, restarts), after(0, restarts));
      assert.deepEqual(after(null, restarts), after(0, restarts));
    }),
  );
});

test("any sequence of exits ends as stopped or failed, or goes on only through stable runs", () => {
  const exits = fc.array(fc.record({ well: fc.boolean(), ranMs: fc.nat(120_000), random: randoms }), { maxLength: 60 });
  fc.assert(
    fc.property(policies, exits, (policy, all) => {
      let restarts = 0;
      let unstableInARow = 0;
      for (const { well, ranMs, random } of all) {
        unstableInARow = ranMs >= stableAfterMs(policy) ? 1 : unstableInARow + 1;
        const next = afterExit(policy, well, ranMs, restarts, random);
        if (next.kind !== "again") {
          assert.equal(next.kind, well && policy.policy !== "always" ? "stopped" : "failed");
          return;
        }
        assert.ok(next.inMs <= policy.maxBackoffMs);
        assert.ok(unstableInARow <= policy.maxRestarts, "a crash loop that was not ended");
        restarts = next.restarts;
      }
    }),
  );
});
