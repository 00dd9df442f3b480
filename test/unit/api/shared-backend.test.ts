// One connection for all requests of a process that its platform may stop between requests.
import assert from "node:assert/strict";
import { test } from "node:test";
import type { OpenBackend } from "../../../src/api/backend.ts";
import { SharedBackend } from "../../../src/api/shared-backend.ts";

type Fake = { isConnected: boolean; answers: boolean; closed: number; pings: number };

/** A shared backend over fake connections, on the test's clock. */
function testBackend() {
  const made: Fake[] = [];
  const clock = { nowMs: 1_000_000 };
  let refuses: Error | null = null;
  const shared = new SharedBackend(
    async () => {
      if (refuses !== null) throw refuses;
      const fake: Fake = { isConnected: true, answers: true, closed: 0, pings: 0 };
      made.push(fake);
      return {
        isConnected: () => fake.isConnected,
        ping: () => {
          fake.pings += 1;
          return fake.answers ? Promise.resolve() : new Promise(() => undefined);
        },
        settled: () => Promise.resolve(),
        close: () => {
          fake.closed += 1;
        },
      } as Pick<OpenBackend, "isConnected" | "ping" | "settled" | "close"> as OpenBackend;
    },
    () => clock.nowMs,
  );
  return { shared, made, clock, refuse: (error: Error | null) => (refuses = error) };
}

test("requests at once, and one after the other, share one connection", async () => {
  const { shared, made, clock } = testBackend();
  const [one, two] = await Promise.all([shared.open(), shared.open()]);
  clock.nowMs += 29_000;
  assert.ok(one === two && (await shared.open()) === one);
  assert.deepEqual(made, [{ isConnected: true, answers: true, closed: 0, pings: 0 }]);
});

test("after 30 s without a request it asks whether the connection still answers, and keeps it if so", async () => {
  const { shared, made, clock } = testBackend();
  const one = await shared.open();
  clock.nowMs += 30_001;
  const all = await Promise.all([shared.open(), shared.open()]);
  assert.deepEqual(all, [one, one]);
  assert.deepEqual(made, [{ isConnected: true, answers: true, closed: 0, pings: 1 }]);
});

test("after 30 s without a request, a connection that does not answer is replaced in less than a second", async () => {
  const { shared, made, clock } = testBackend();
  await shared.open();
  const [first] = made;
  assert.ok(first !== undefined);
  first.answers = false;
  clock.nowMs += 30_001;
  const startedAtMs = performance.now();
  const [one, two] = await Promise.all([shared.open(), shared.open()]);
  assert.ok(performance.now() - startedAtMs < 1000);
  assert.equal(one, two);
  assert.deepEqual([made.length, first.closed, made[1]?.closed], [2, 1, 0]);
});

test("after a request that got no answer, the next one asks first, and replaces a connection that does not answer", async () => {
  const { shared, made } = testBackend();
  const one = await shared.open();
  shared.doubt();
  assert.equal(await shared.open(), one);
  assert.equal(await shared.open(), one);
  const [first] = made;
  assert.ok(first !== undefined);
  assert.equal(first.pings, 1);
  first.answers = false;
  shared.doubt();
  assert.notEqual(await shared.open(), one);
  assert.equal(first.closed, 1);
});

test("a connection that is known to be lost is replaced at once, by one for all", async () => {
  const { shared, made } = testBackend();
  await shared.open();
  const [first] = made;
  assert.ok(first !== undefined);
  first.isConnected = false;
  const [one, two] = await Promise.all([shared.open(), shared.open()]);
  assert.equal(one, two);
  assert.deepEqual([made.length, first.closed, first.pings], [2, 1, 0]);
});

test("after a connection that failed, the next request tries again", async () => {
  const { shared, made, refuse } = testBackend();
  refuse(new Error("away"));
  await Promise.all([assert.rejects(shared.open(), /away/), assert.rejects(shared.open(), /away/)]);
  refuse(null);
  await shared.open();
  assert.equal(made.length, 1);
});

test("close closes once, also twice at once, and a later request opens a new connection", async () => {
  const { shared, made } = testBackend();
  await shared.close();
  await shared.open();
  await Promise.all([shared.close(), shared.close()]);
  assert.equal(made[0]?.closed, 1);
  await shared.open();
  assert.equal(made.length, 2);
});
