import assert from "node:assert/strict";
import { describe, it, type TestContext } from "node:test";
import { Heartbeats } from "../../../workers/node/membership/heartbeats.ts";

const NEVER_MS = 3_600_000;

function open(t: TestContext, heartbeatMs: number, beat: () => Promise<void>) {
  const errors: unknown[] = [];
  const heartbeats = new Heartbeats({
    heartbeatMs,
    random: () => 0.5,
    beat,
    onError: (error) => errors.push(error),
  });
  t.after(() => heartbeats.close());
  return { heartbeats, errors };
}

describe("heartbeats", () => {
  it("come one after the other, never two at once, even after a failed one", async (t) => {
    let underWay = 0;
    let count = 0;
    const { heartbeats, errors } = open(t, 2, async () => {
      assert.equal((underWay += 1), 1);
      count += 1;
      await new Promise(setImmediate);
      underWay -= 1;
      if (count === 2) throw new Error("no answer");
    });
    heartbeats.begin();
    for (let each = 0; each < 4; each++) await heartbeats.next();
    assert.equal(count, 4);
    assert.deepEqual(errors.map(String), ["Error: no answer"]);
  });

  it("can be brought forward once one is scheduled", async (t) => {
    let count = 0;
    const { heartbeats } = open(t, NEVER_MS, async () => void (count += 1));
    heartbeats.bringForward(1);
    heartbeats.begin();
    heartbeats.bringForward(1);
    await heartbeats.next();
    assert.equal(count, 1);
  });

  it("end after the one that is under way, and none begins after that", async (t) => {
    const answer = Promise.withResolvers<void>();
    const begun = Promise.withResolvers<void>();
    let count = 0;
    const { heartbeats } = open(t, 1, async () => {
      count += 1;
      begun.resolve();
      await answer.promise;
    });
    heartbeats.begin();
    await begun.promise;
    let hasEnded = false;
    const ended = heartbeats.end().then(() => (hasEnded = true));
    await new Promise(setImmediate);
    assert.equal(hasEnded, false);
    answer.resolve();
    await Promise.all([ended, heartbeats.end()]);
    await assert.rejects(heartbeats.next(), /the worker has ended/);
    assert.equal(count, 1);
  });

  it("reject those who wait for the next one if there will be none", async (t) => {
    const { heartbeats } = open(t, NEVER_MS, async () => undefined);
    heartbeats.begin();
    const next = heartbeats.next();
    heartbeats.close();
    await assert.rejects(next, /the worker has ended/);
  });
});
