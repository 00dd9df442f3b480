import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import fc from "fast-check";
import { healthOf } from "../../../src/domain/stitch/health.ts";
import type { Health } from "../../../src/domain/stitch/stitch.ts";
import { Heartbeats } from "../../../workers/node/protocol/heartbeats.ts";

const EVERY_MS = 1000;

/** Heartbeats under a clock of the test's own: what was sent, and the health that was told. */
function beating(t: TestContext) {
  t.mock.timers.enable({ apis: ["setInterval"] });
  const sent: number[] = [];
  const told: Health[] = [];
  const heartbeats = new Heartbeats({
    everyMs: EVERY_MS,
    send: (number) => sent.push(number),
    onHealth: (health) => told.push(health),
  });
  t.after(() => heartbeats.stop());
  heartbeats.start();
  const pass = (beats: number) => t.mock.timers.tick(beats * EVERY_MS);
  return { heartbeats, sent, told, pass };
}

const isHeard = async (heartbeats: Heartbeats): Promise<boolean> =>
  Promise.race([heartbeats.heard.then(() => true), new Promise<false>((resolve) => setImmediate(resolve, false))]);

test("the first is sent at once, the others one each everyMs, until it is stopped", (t) => {
  const { heartbeats, sent, pass } = beating(t);
  assert.deepEqual(sent, [1]);
  t.mock.timers.tick(EVERY_MS - 1);
  assert.deepEqual(sent, [1]);
  t.mock.timers.tick(1);
  assert.deepEqual(sent, [1, 2]);
  pass(3);
  assert.deepEqual(sent, [1, 2, 3, 4, 5]);
  heartbeats.stop();
  heartbeats.stop();
  pass(10);
  assert.equal(sent.length, 5);
});

test("one that never answers is missing for ever, and nothing is told", async (t) => {
  const { heartbeats, told, pass } = beating(t);
  pass(100);
  assert.deepEqual(told, []);
  assert.equal(await isHeard(heartbeats), false);
});

test("answers keep it green; silence turns it yellow, then red; an answer green again, each told once", async (t) => {
  const { heartbeats, sent, told, pass } = beating(t);
  heartbeats.answered(1);
  assert.equal(await isHeard(heartbeats), true);
  for (let beat = 0; beat < 5; beat++) {
    pass(1);
    heartbeats.answered(sent.at(-1) ?? 0);
  }
  assert.deepEqual(told, ["green"]);
  // The one just sent has its time yet: two are missed when the third of those that stay unanswered goes out.
  pass(2);
  assert.deepEqual(told, ["green"]);
  pass(1);
  assert.deepEqual(told, ["green", "yellow"]);
  pass(3);
  assert.deepEqual(told, ["green", "yellow"]);
  pass(1);
  assert.deepEqual(told, ["green", "yellow", "red"]);
  pass(50);
  assert.deepEqual(told, ["green", "yellow", "red"]);
  heartbeats.answered(sent.at(-1) ?? 0);
  assert.deepEqual(told, ["green", "yellow", "red", "green"]);
});

test("an answer that comes late counts for its own and those before it, not for those after", (t) => {
  const { heartbeats, told, pass } = beating(t);
  heartbeats.answered(1);
  pass(8);
  assert.equal(told.at(-1), "red");
  // 2 to 9 were sent; 9 has its time yet.
  heartbeats.answered(3);
  assert.equal(told.at(-1), "yellow");
  heartbeats.answered(6);
  assert.equal(told.at(-1), "yellow");
  heartbeats.answered(7);
  assert.equal(told.at(-1), "green");
  assert.deepEqual(told, ["green", "yellow", "red", "yellow", "green"]);
});

test("an answer to one that was never sent, was answered or is too old to be remembered means nothing", async (t) => {
  const { heartbeats, told, pass } = beating(t);
  for (const number of [0, -1, 2, 99, 1.5, Number.NaN]) heartbeats.answered(number);
  assert.equal(await isHeard(heartbeats), false);
  pass(40);
  heartbeats.answered(1);
  heartbeats.answered(20);
  assert.deepEqual(told, [], "those are forgotten: silence of any length takes no more memory");
  heartbeats.answered(41);
  assert.deepEqual(told, ["green"]);
  pass(7);
  assert.deepEqual(told, ["green", "yellow", "red"]);
  heartbeats.answered(41);
  assert.deepEqual(told, ["green", "yellow", "red"], "answered before");
});

test("whatever is answered when: its health is that of the answers so far, and is told when it changes", (t) => {
  const acts = fc.array(fc.oneof(fc.constant("beat" as const), fc.integer({ min: -2, max: 60 })), { maxLength: 80 });
  t.mock.timers.enable({ apis: ["setInterval"] });
  fc.assert(
    fc.property(acts, (all) => {
      let last = 0;
      let lastAnswered = 0;
      let health: Health = "missing";
      const heartbeats = new Heartbeats({
        everyMs: EVERY_MS,
        send: (number) => (last = number),
        onHealth: (told) => {
          assert.notEqual(told, health, "told though it is the same");
          health = told;
        },
      });
      heartbeats.start();
      for (const act of all) {
        if (act === "beat") t.mock.timers.tick(EVERY_MS);
        else {
          heartbeats.answered(act);
          if (act > lastAnswered && act <= last && act > last - 16) lastAnswered = act;
        }
        // The newest has its time yet.
        const missed = Math.max(0, last - lastAnswered - 1);
        assert.equal(health, healthOf(missed, lastAnswered > 0), `${last} sent, ${lastAnswered} answered`);
      }
      heartbeats.stop();
    }),
  );
});
