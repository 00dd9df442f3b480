import assert from "node:assert/strict";
import { test } from "node:test";
import type { Candidacy, Election, LeaderLease } from "../../../src/domain/election.ts";
import { Leader } from "../../../src/master/leader/leader.ts";

const LEASE_MS = 6000;

/** A lease that does what the test says, and a clock that the test moves. */
function world() {
  const told: string[] = [];
  let nowMs = 0;
  let n = 0;
  let renews: () => Promise<boolean> = async () => true;
  let wins: (candidacy: Candidacy) => Promise<Election | null> = async ({ id, holder, above }) => ({
    id,
    holder,
    epoch: above + 1,
    n: ++n,
  });
  const lease: LeaderLease = {
    place: "test",
    win: async (candidacy) => {
      const election = await wins(candidacy);
      return election === null ? { election, leftMs: 100 } : { election, before: null };
    },
    renew: () => renews(),
    giveBack: async (election) => void told.push(`given back ${election.n}`),
  };
  const leader = new Leader({
    id: "m1",
    lease,
    leaseMs: LEASE_MS,
    steadyNowMs: () => nowMs,
    random: () => 0.5,
    randomBytes: (count) => new Uint8Array(count),
    onElected: ({ election }) => told.push(`elected ${election.n}`),
    onLost: (election) => told.push(`lost ${election.n}`),
  });
  return {
    told,
    leader,
    pass: (ms: number) => (nowMs += ms),
    whenRenewed: (does: typeof renews) => (renews = does),
    whenWon: (does: typeof wins) => (wins = does),
  };
}

test("it may decide from its election on, for less than the lease, and for as long again after each renewal", async () => {
  const { leader, pass, told } = world();
  assert.equal(leader.current(), null);
  assert.equal(await leader.takePart(), LEASE_MS / 3);
  pass(5199);
  assert.equal(leader.current()?.n, 1);
  pass(1);
  assert.equal(leader.current(), null, "a tenth and 200 ms before the lease ends");
  await leader.takePart();
  assert.equal(leader.current()?.n, 1, "nobody was elected meanwhile");
  assert.deepEqual(told, ["elected 1"]);
});

test("the time counts from when the request was sent: an answer that comes late gives no right", async () => {
  const { leader, pass, whenRenewed } = world();
  await leader.takePart();
  whenRenewed(async () => {
    pass(LEASE_MS);
    return true;
  });
  await leader.takePart();
  assert.equal(leader.current(), null);
});

test("a lease whose store does not answer ends the right by itself; one that is lost ends it at once, and it is a candidate", async () => {
  const { leader, pass, told, whenRenewed, whenWon } = world();
  await leader.takePart();
  whenRenewed(() => Promise.reject(new Error("away")));
  await assert.rejects(leader.takePart(), /away/);
  assert.equal(leader.current()?.n, 1);
  pass(LEASE_MS);
  assert.equal(leader.current(), null);
  whenRenewed(async () => false);
  whenWon(async () => null);
  assert.equal(await leader.takePart(), 100 + LEASE_MS / 6, "what is left, and a random part of a third");
  assert.deepEqual([leader.current(), told], [null, ["elected 1", "lost 1"]]);
});

test("it gives its lease back when it steps down, and when it was elected while it was being stopped", async () => {
  const { leader, told, whenWon } = world();
  await leader.takePart();
  await Promise.all([leader.stepDown(), leader.stepDown()]);
  const asked = Promise.withResolvers<void>();
  const answer = Promise.withResolvers<void>();
  whenWon(async ({ id, holder }) => {
    asked.resolve();
    await answer.promise;
    return { id, holder, epoch: 1, n: 2 };
  });
  const taking = leader.takePart();
  await asked.promise;
  await leader.stop();
  answer.resolve();
  await taking;
  assert.deepEqual([leader.current(), told], [null, ["elected 1", "lost 1", "given back 1", "given back 2"]]);
});

test("a job of a higher epoch makes it ask for an election above that", async () => {
  const { leader, told } = world();
  await leader.takePart();
  leader.askAbove(500);
  assert.equal(leader.current(), null, "it decides nothing meanwhile");
  await leader.takePart();
  assert.equal(leader.current()?.epoch, 501);
  leader.askAbove(500);
  assert.equal(leader.current()?.epoch, 501);
  assert.deepEqual(told, ["elected 1", "lost 1", "elected 2"]);
});

test("a leader that meets the epoch of its successor is a candidate like any other, and does not depose it", async () => {
  const { leader, whenRenewed, whenWon } = world();
  await leader.takePart();
  leader.askAbove(500);
  whenRenewed(async () => false);
  const above: number[] = [];
  whenWon(async (candidacy) => {
    above.push(candidacy.above);
    return null;
  });
  await leader.takePart();
  assert.deepEqual([above, leader.current()], [[0], null]);
});
