import assert from "node:assert/strict";
import { mock, test } from "node:test";
import { LATE, orLate, pause, within } from "../../src/bounded-wait.ts";

const never = new Promise<never>(() => undefined);
const timers = (): number => process.getActiveResourcesInfo().filter((name) => name === "Timeout").length;

test("work that ends in time returns its value and leaves no timer", async () => {
  const before = timers();
  assert.equal(await orLate(Promise.resolve(7), 60_000), 7);
  assert.equal(await within(60_000, Promise.resolve(7)), 7);
  assert.equal(timers(), before);
});

test("work that fails in time throws its error and leaves no timer", async () => {
  const before = timers();
  const failure = new Error("no");
  await assert.rejects(orLate(Promise.reject(failure), 60_000), failure);
  await assert.rejects(within(60_000, Promise.reject(failure)), failure);
  assert.equal(timers(), before);
});

test("late work gives LATE, or the error that the caller asked for", async () => {
  assert.equal(await orLate(never, 1), LATE);
  await assert.rejects(within(1, never), { message: "took longer than 1 ms" });
  await assert.rejects(within(1, never, "nobody answers"), { message: "nobody answers" });
});

test("a failure after the time limit is ignored, and the process goes on", async () => {
  const late = Promise.withResolvers<void>();
  assert.equal(await orLate(late.promise, 1), LATE);
  const unheard = mock.fn();
  process.once("unhandledRejection", unheard);
  late.reject(new Error("too late"));
  await new Promise((resolve) => setImmediate(resolve));
  process.off("unhandledRejection", unheard);
  assert.equal(unheard.mock.callCount(), 0);
});

test("a pause ends after its time, or at once if its signal aborts or is aborted; it leaves no timer", async () => {
  const before = timers();
  await pause(1);
  const stop = new AbortController();
  const waiting = pause(60_000, stop.signal);
  stop.abort();
  await waiting;
  await pause(60_000, stop.signal);
  assert.equal(timers(), before);
});
