import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { healthCheck } from "../../../src/domain/stitch/check.ts";
import { CheckLoop } from "../../../workers/node/adaptors/check-loop.ts";
import { failedLook, type Finding } from "../../../workers/node/adaptors/probe.ts";
import { settled } from "../../support/settled.ts";

const WELL: Finding = { kind: "well" };
const BAD = failedLook("answered 500");

/** A loop whose looks end when the test says so, on the test's timers. */
function looping(t: TestContext, check: object = {}) {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const looks: { readonly signal: AbortSignal; readonly end: (finding: Finding) => void }[] = [];
  const told: unknown[] = [];
  const said: string[] = [];
  const loop = new CheckLoop({
    check: healthCheck.parse({ tcp: { port: 80 }, ...check }),
    probe: (signal) => new Promise((end) => looks.push({ signal, end })),
    onHealth: (...health) => told.push(health),
    say: (text) => said.push(text),
  });
  t.after(() => {
    const stopping = loop.stop();
    looks.at(-1)?.end(WELL);
    return stopping;
  });
  const end = async (finding: Finding) => {
    (looks.at(-1) ?? assert.fail("no look")).end(finding);
    await settled();
  };
  const pass = async (ms: number) => {
    t.mock.timers.tick(ms);
    await settled();
  };
  return { loop, looks, told, said, end, pass };
}

test("the first look comes at once, and until the program is green they come often, then at each interval", async (t) => {
  const { loop, looks, told, end, pass } = looping(t);
  loop.start();
  assert.equal(looks.length, 1);
  loop.start();
  assert.equal(looks.length, 1);
  await end(BAD);
  assert.equal(loop.failure, "tcp 127.0.0.1:80: answered 500");
  await pass(500);
  assert.equal(looks.length, 2);
  await end(WELL);
  await loop.green;
  assert.deepEqual(told, [["green", null]]);
  assert.equal(loop.failure, null);
  await pass(9000);
  assert.equal(looks.length, 2);
  await pass(1000);
  assert.equal(looks.length, 3);
});

test("a look never begins before the one before it has ended", async (t) => {
  const { loop, looks, end, pass } = looping(t, { intervalMs: 3000 });
  loop.start();
  await pass(10_000);
  assert.equal(looks.length, 1);
  await end(WELL);
  await pass(3000);
  assert.equal(looks.length, 2);
});

test("a look that takes too long is given up, and counts as a failure with what it said", async (t) => {
  const { loop, looks, end, pass } = looping(t, { timeoutMs: 1000 });
  loop.start();
  await pass(999);
  assert.equal(looks[0]?.signal.aborted, false);
  await pass(1);
  assert.equal(looks[0]?.signal.aborted, true);
  await end({ kind: "given up", said: "waiting" });
  assert.equal(loop.failure, "tcp 127.0.0.1:80: no answer within 1000 ms: waiting");
});

test("what the node could not look at changes no health, however often", async (t) => {
  const { loop, told, end, pass } = looping(t, { redAfter: 1 });
  loop.start();
  await end(WELL);
  for (let each = 0; each < 5; each++) {
    await pass(10_000);
    await end({ kind: "not made", reason: "EMFILE" });
  }
  assert.deepEqual(told, [["green", null]]);
  assert.match(loop.failure ?? "", /the node could not look: EMFILE/);
});

test("turns red, says so once in the log, and tells each health with the last failure", async (t) => {
  const { loop, told, said, end, pass } = looping(t, { redAfter: 2, greenAfter: 2 });
  loop.start();
  for (const finding of [BAD, BAD, BAD, WELL, WELL, BAD, BAD, BAD, WELL, WELL]) {
    await end(finding);
    await pass(10_000);
  }
  const failure = "tcp 127.0.0.1:80: answered 500";
  assert.deepEqual(told, [
    ["green", null],
    ["yellow", failure],
    ["red", failure],
    ["yellow", null],
    ["green", null],
  ]);
  assert.deepEqual(said, [
    `it is not green yet: 2 checks have failed since its start, the last: ${failure}`,
    `its check is red: 2 checks in a row have failed, the last: ${failure}`,
  ]);
});

test("a stop gives the look up, tells nothing more, and waits until nothing of it is left", async (t) => {
  const { loop, looks, told, end, pass } = looping(t);
  loop.start();
  let isStopped = false;
  const stopping = loop.stop().then(() => (isStopped = true));
  await settled();
  assert.deepEqual([looks[0]?.signal.aborted, isStopped], [true, false]);
  await end(WELL);
  await stopping;
  await pass(60_000);
  loop.start();
  assert.deepEqual([looks.length, told], [1, []]);
});

test("a loop that is stopped between two looks ends at once", async (t) => {
  const { loop, looks, end } = looping(t);
  loop.start();
  await end(WELL);
  await loop.stop();
  assert.equal(looks.length, 1);
});

test("a loop that is stopped before its start makes no look", async (t) => {
  const { loop, looks } = looping(t);
  await loop.stop();
  loop.start();
  assert.equal(looks.length, 0);
});
