import assert from "node:assert/strict";
import { describe, it, type TestContext } from "node:test";
import { Lease } from "../../../workers/node/membership/lease.ts";

const LEASE_MS = 1000;

function start(t: TestContext) {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const clock = { atMs: 5_000_000, steadyAtMs: 100 };
  const ends: number[] = [];
  const lease = new Lease({
    leaseMs: LEASE_MS,
    nowMs: () => clock.atMs,
    steadyNowMs: () => clock.steadyAtMs,
    onEnd: () => ends.push(clock.steadyAtMs),
  });
  t.after(() => lease.close());
  /** Time passes, and timers that are due run. With `asleep`, the steady clock stands still, as while a machine sleeps. */
  const passes = (ms: number, { asleep = false } = {}) => {
    clock.atMs += ms;
    if (asleep) return;
    clock.steadyAtMs += ms;
    t.mock.timers.tick(ms);
  };
  return { lease, clock, ends, passes };
}

describe("the lease as its node sees it", () => {
  it("holds from the moment when it was asked for, and ends once", (t) => {
    const { lease, ends, passes } = start(t);
    assert.equal(lease.holds, false);
    const asked = lease.ask();
    passes(300);
    assert.equal(lease.renewed(asked), 700);
    ends.length = 0;
    passes(699);
    assert.deepEqual([lease.holds, lease.leftMs, ends], [true, 1, []]);
    passes(1);
    assert.deepEqual([lease.holds, lease.leftMs, ends.length], [false, 0, 1]);
    passes(5 * LEASE_MS);
    assert.equal(ends.length, 1);
  });

  it("goes on while it is renewed", (t) => {
    const { lease, ends, passes } = start(t);
    lease.renewed(lease.ask());
    ends.length = 0;
    for (let i = 0; i < 10; i++) {
      passes(LEASE_MS - 1);
      assert.ok(lease.holds);
      lease.renewed(lease.ask());
    }
    assert.deepEqual(ends, []);
    lease.close();
    passes(2 * LEASE_MS);
    assert.deepEqual([lease.holds, ends], [false, []]);
  });

  it("has ended even if that is noticed only at the next renewal", (t) => {
    const { lease, clock, ends } = start(t);
    lease.renewed(lease.ask());
    ends.length = 0;
    // What blocks the event loop delays its timer, too.
    clock.steadyAtMs += LEASE_MS;
    lease.renewed(lease.ask());
    assert.deepEqual([ends.length, lease.holds], [1, true]);
  });

  it("is not longer after the machine's clock was set back, or after a sleep", (t) => {
    const { lease, clock, ends, passes } = start(t);
    const asked = lease.ask();
    clock.atMs -= 3_600_000;
    assert.equal(lease.renewed(asked), LEASE_MS);
    ends.length = 0;
    passes(LEASE_MS);
    assert.deepEqual([lease.holds, ends.length], [false, 1]);
    lease.renewed(lease.ask());
    passes(LEASE_MS, { asleep: true });
    assert.equal(lease.holds, false);
    lease.renewed(lease.ask());
    assert.ok(lease.holds);
  });
});
