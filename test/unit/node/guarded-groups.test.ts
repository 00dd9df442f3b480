import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { GuardedGroups } from "../../../workers/node/processes/guarded-groups.ts";

/** Groups under the test's own clock. `done` lists what was done to them. */
function guarding(t: TestContext) {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  let nowMs = 1000;
  const done: string[] = [];
  const dues: (() => boolean)[] = [];
  const groups = new GuardedGroups({
    nowMs: () => nowMs,
    signal: (pid, signal) => done.push(`${signal} ${pid}`),
    onLeaseEnd: (pid) => done.push(`end ${pid}`),
    endEscaped: (stitch, isDue) => {
      done.push(`escaped ${stitch}`);
      dues.push(isDue);
    },
  });
  /** The clock goes on. With `asleep`, no timer fires yet. */
  const pass = (ms: number, how: "awake" | "asleep" = "awake") => {
    nowMs += ms;
    if (how === "awake") t.mock.timers.tick(ms);
  };
  const taken = () => done.splice(0);
  return { groups, pass, taken, dues };
}

const mortal = { stitch: "a", graceMs: 100 };

test("the end of the lease ends the groups that must not outlive it, then what has left them; others go on", (t) => {
  const { groups, pass, taken } = guarding(t);
  groups.guard(11, mortal);
  groups.guard(12, null);
  groups.renew(2000);
  pass(500);
  groups.renew(2500);
  pass(999);
  assert.deepEqual(taken(), []);
  pass(1);
  assert.deepEqual(taken(), ["end 11", "SIGTERM 11"]);
  pass(99);
  assert.deepEqual(taken(), []);
  pass(1);
  assert.deepEqual(taken(), ["SIGKILL 11", "escaped a"]);
  assert.deepEqual(groups.pids, [11, 12]);
});

test("a renewal after the end of the lease does not undo that end", (t) => {
  const { groups, pass, taken } = guarding(t);
  groups.guard(11, mortal);
  groups.renew(2000);
  pass(1000, "asleep");
  groups.renew(9000);
  assert.deepEqual(taken(), ["end 11", "SIGTERM 11"]);
  groups.guard(13, mortal);
  assert.deepEqual(taken(), [], "what is started under the new one is not");
  pass(100);
  assert.deepEqual(taken(), ["SIGKILL 11", "escaped a"]);
});

test("a group that is guarded after the end of the lease is ended at once", (t) => {
  const { groups, pass, taken } = guarding(t);
  groups.renew(2000);
  pass(1000);
  groups.guard(11, mortal);
  groups.guard(12, null);
  assert.deepEqual(taken(), ["end 11", "SIGTERM 11"]);
});

test("a released group is left alone, even if its number is used again", (t) => {
  const { groups, pass, taken, dues } = guarding(t);
  groups.guard(11, mortal);
  groups.guard(12, mortal);
  groups.renew(2000);
  pass(1000);
  assert.equal(taken().length, 4);
  groups.release(11);
  groups.renew(9000);
  groups.guard(11, mortal);
  pass(100);
  assert.deepEqual(taken(), ["SIGKILL 12", "escaped a"], "12 was asked to end once, not at its renewal again");
  assert.equal(dues[0]?.(), true);
  groups.release(12);
  assert.equal(dues[0]?.(), false);
});
