import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import {
  compareOrder,
  currentElection,
  decidesUntilMs,
  elect,
  jobElection,
  jobElectionText,
  type Lease,
  mayApply,
  maySave,
  mayTakeOver,
} from "../../../src/domain/election.ts";

const ID = "0123456789abcdef".repeat(2);
const lease = (over: Partial<Lease> = {}): Lease => ({
  election: { id: "one", holder: "m1", epoch: 100, n: 3 },
  untilMs: 5000,
  replicationId: "r",
  ...over,
});
const candidate = { id: "two", holder: "m2", leaseMs: 1000, above: 0 };
const at = (nowMs: number, over: object = {}) => ({ nowMs, replicationId: "r", epoch: 100, ...over });

test("a candidate is not elected while the lease of another one runs, and continues its order afterwards", () => {
  assert.equal(elect(lease(), candidate, at(4999)), null);
  const next = elect(lease(), candidate, at(5000)) ?? assert.fail();
  assert.deepEqual([next.election, next.untilMs], [{ id: "two", holder: "m2", epoch: 100, n: 4 }, 6000]);
});

test("the first election, one after another Redis took over, and one above a known epoch begin a new epoch", () => {
  const newEpoch = (found: Lease | null) => [found?.election.epoch, found?.election.n];
  assert.deepEqual(newEpoch(elect(null, candidate, at(7, { epoch: 0 }))), [7, 1]);
  assert.equal(currentElection(lease(), "other"), null);
  assert.deepEqual(newEpoch(elect(lease(), candidate, at(1, { replicationId: "other" }))), [101, 1]);
  assert.deepEqual(newEpoch(elect(lease(), { ...candidate, above: 100 }, at(1))), [101, 1]);
  assert.deepEqual(newEpoch(elect(lease(), { ...candidate, above: 500 }, at(1))), [501, 1]);
  // The mode was changed since, which raises the epoch.
  assert.deepEqual(newEpoch(elect(lease(), candidate, at(1, { epoch: 200 }))), [201, 1]);
});

test("whatever happens to clocks and to Redis, each election has a higher order than the one before", () => {
  const event = fc.record({
    nowMs: fc.nat(1_000_000),
    replicationId: fc.constantFrom("r", "s", "t"),
    above: fc.nat(300),
  });
  fc.assert(
    fc.property(fc.array(event), (events) => {
      let held: Lease | null = null;
      let epoch = 0;
      for (const { nowMs, replicationId, above } of events) {
        const next = elect(held, { ...candidate, above }, { nowMs, replicationId, epoch });
        if (next === null) continue;
        if (held !== null) assert.ok(compareOrder(next.election, held.election) > 0);
        assert.ok(next.election.epoch > above);
        held = next;
        epoch = next.election.epoch;
      }
    }),
  );
});

test("a Master stops deciding before its lease can have run out", () => {
  fc.assert(
    fc.property(fc.nat(), fc.integer({ min: 1000, max: 600_000 }), (sentMs, leaseMs) => {
      const untilMs = decidesUntilMs(sentMs, leaseMs);
      assert.ok(untilMs <= sentMs + leaseMs - 300 && untilMs > sentMs + leaseMs / 3);
    }),
  );
});

test("a job's election is kept as a text, and any other text is refused", () => {
  for (const election of [
    { epoch: 1_796_112_558_850, n: 12, id: ID },
    { epoch: 0, n: 0, id: null },
  ])
    assert.deepEqual(jobElection.parse(jobElectionText(election)), election);
  for (const wrong of ["", "1 2", `1 2 ${ID} 3`, `-1 2 ${ID}`, "1 2 x", `1.5 2 ${ID}`, ` 1 2 ${ID}`])
    assert.equal(jobElection.safeParse(wrong).success, false, wrong);
});

test("a job is taken over by a newer election only, and saved under its own only", () => {
  const job = { epoch: 100, n: 3, id: ID };
  assert.equal(mayTakeOver(null, { epoch: 0, n: 0 }), true);
  for (const [own, may] of [
    [{ epoch: 100, n: 4 }, true],
    [{ epoch: 101, n: 0 }, true],
    [{ epoch: 100, n: 3 }, false],
    [{ epoch: 99, n: 9 }, false],
  ] as const)
    assert.equal(mayTakeOver(job, own), may);
  assert.deepEqual(
    [maySave(job, ID), maySave(job, null), maySave(null, ID), maySave(null, null)],
    [true, false, false, true],
  );
  assert.equal(maySave({ ...job, id: null }, null), true, "a Master of another mode has taken it over");
  assert.deepEqual(
    [mayApply("one", lease().election), mayApply("two", lease().election), mayApply("one", null)],
    [true, false, false],
  );
});
