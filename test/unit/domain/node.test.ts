import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { isPresent, livenessOf, shortOf } from "../../../src/domain/node/node.ts";

const lease = { incarnation: 3, leaseUntilMs: 1000, leftAtMs: null, deadIncarnation: null };

for (const [nowMs, liveness] of [
  [0, "alive"],
  [999, "alive"],
  [1000, "suspect"],
  [1199, "suspect"],
  [1200, "dead"],
] as const) {
  test(`a lease until 1000, dead 200 ms later: ${liveness} at ${nowMs}`, () => {
    assert.equal(livenessOf({ ...lease, readAtMs: nowMs }, 200), liveness);
  });
}

test("a node that left is left, whatever its lease, and even if it was declared dead", () => {
  fc.assert(
    fc.property(fc.nat(3000), fc.option(fc.nat(5)), (nowMs, deadIncarnation) => {
      assert.equal(livenessOf({ ...lease, leftAtMs: 500, deadIncarnation, readAtMs: nowMs }, 200), "left");
    }),
  );
});

test("a declared death counts for that incarnation only, with or without a lease", () => {
  assert.equal(livenessOf({ ...lease, deadIncarnation: 3, readAtMs: 0 }, 200), "dead");
  assert.equal(livenessOf({ ...lease, deadIncarnation: 2, readAtMs: 0 }, 200), "alive");
});

test("a node that Redis does not know is dead", () => {
  assert.equal(livenessOf(null, 200), "dead");
  assert.equal(livenessOf(undefined, 200), "dead");
});

test("a node is present while it is alive or suspect, and not when it is dead or has left", () => {
  assert.deepEqual((["alive", "suspect", "dead", "left"] as const).filter(isPresent), ["alive", "suspect"]);
});

test("with time a node goes from alive through suspect to dead, and never back", () => {
  const RANK = { alive: 0, suspect: 1, dead: 2, left: 3 };
  fc.assert(
    fc.property(fc.nat(3000), fc.nat(3000), fc.nat(500), (at, later, deadAfterMs) => {
      const rank = (nowMs: number) => RANK[livenessOf({ ...lease, readAtMs: nowMs }, deadAfterMs)];
      assert.ok(rank(at) <= rank(at + later));
    }),
  );
});

test("a request fits exactly up to the capacity, also in tenths of a core", () => {
  const tenths = fc.nat(40);
  fc.assert(
    fc.property(tenths, tenths, tenths, (capacity, reserved, asked) => {
      const short = shortOf(
        { cpu: capacity / 10, memoryBytes: 0 },
        { cpu: reserved / 10, memoryBytes: 0 },
        { cpu: asked / 10, memoryBytes: 0 },
      );
      assert.equal(short, asked > 0 && reserved + asked > capacity ? "cpu" : null);
    }),
  );
  assert.equal(shortOf({ cpu: 0.3, memoryBytes: 0 }, { cpu: 0.1, memoryBytes: 0 }, { cpu: 0.2, memoryBytes: 0 }), null);
});

test("one byte too much is short of memory; a stitch that asks for nothing always fits", () => {
  const full = { cpu: 1, memoryBytes: 100 };
  assert.equal(shortOf(full, { cpu: 0, memoryBytes: 60 }, { cpu: 0, memoryBytes: 40 }), null);
  assert.equal(shortOf(full, { cpu: 0, memoryBytes: 60 }, { cpu: 0, memoryBytes: 41 }), "memory");
  assert.equal(shortOf(full, { cpu: 9, memoryBytes: 900 }, { cpu: 0, memoryBytes: 0 }), null);
});
