// The watchdog beside a worker, with real processes.
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { describe, it, type TestContext } from "node:test";
import { Watchdog } from "../../workers/node/processes/watchdog.ts";
import { until } from "../support/cluster.ts";
import { isRunning } from "../support/process-list.ts";

const POLITE = "trap 'exit 7' TERM; echo up; while :; do sleep 0.1; done";
const DEAF = "trap '' TERM; echo up; while :; do sleep 0.1; done";
/** Longer than a test: a lease of this length does not end within one. */
const LONG_MS = 600_000;

const mortal = (graceMs: number) => ({ stitch: "a", graceMs });

async function start(
  t: TestContext,
  script: string,
  session = "",
): Promise<{ pid: number; ended: Promise<unknown[]> }> {
  const child: ChildProcess = spawn("sh", ["-c", script], {
    detached: true,
    stdio: ["ignore", "pipe", "ignore"],
    env: { ...process.env, STITCH_SESSION: session },
  });
  const ended = once(child, "exit");
  const { pid = 0, stdout } = child;
  t.after(async () => {
    if (child.exitCode === null && child.signalCode === null) process.kill(-pid, "SIGKILL");
    await ended;
  });
  assert.ok(stdout !== null);
  await once(stdout, "data");
  return { pid, ended };
}

function startWatchdog(
  t: TestContext,
  onError: (error: unknown) => void = assert.ifError,
  onRestart: () => void = () => assert.fail("it must not end"),
  session: string = randomUUID(),
): Watchdog {
  const watchdog = new Watchdog(session, onError, onRestart);
  watchdog.start();
  t.after(async () => {
    watchdog.end();
    await until("the watchdog is gone", () => watchdog.pid !== null && !isRunning(watchdog.pid));
  });
  return watchdog;
}

describe("the watchdog", { concurrency: 3 }, () => {
  it("ends the processes that must not outlive the lease, and no others, and says which", async (t) => {
    const watchdog = startWatchdog(t);
    const [polite, deaf, kept, released] = await Promise.all(
      [POLITE, DEAF, POLITE, POLITE].map((script) => start(t, script)),
    );
    assert.ok(polite && deaf && kept && released);
    watchdog.guard(polite.pid, mortal(LONG_MS));
    watchdog.guard(deaf.pid, mortal(100));
    watchdog.guard(kept.pid, null);
    watchdog.guard(released.pid, mortal(100));
    assert.equal(watchdog.release(released.pid), false);
    watchdog.leaseHolds(300);
    assert.deepEqual(await polite.ended, [7, null]);
    assert.deepEqual(await deaf.ended, [null, "SIGKILL"]);
    assert.deepEqual([isRunning(kept.pid), isRunning(released.pid)], [true, true]);
    assert.equal(watchdog.release(polite.pid), true);
    assert.equal(watchdog.release(deaf.pid), true);
    assert.equal(watchdog.release(kept.pid), false);
    const late = await start(t, POLITE);
    watchdog.guard(late.pid, mortal(LONG_MS));
    assert.deepEqual(await late.ended, [7, null], "what it is told of after the lease ends at once");
  });

  it("ends those processes even if it slept when the lease ran out, and hears of a new lease first", async (t) => {
    const watchdog = startWatchdog(t);
    const [first, second] = await Promise.all([start(t, POLITE), start(t, POLITE)]);
    watchdog.guard(first.pid, mortal(LONG_MS));
    watchdog.leaseHolds(0);
    await first.ended;
    watchdog.release(first.pid);
    watchdog.leaseHolds(1000);
    const overAtMs = Date.now() + 1000;
    watchdog.guard(second.pid, mortal(LONG_MS));
    process.kill(watchdog.pid ?? assert.fail(), "SIGSTOP");
    await until("the lease is over", () => Date.now() > overAtMs);
    watchdog.leaseHolds(LONG_MS);
    process.kill(watchdog.pid ?? assert.fail(), "SIGCONT");
    assert.deepEqual(await second.ended, [7, null]);
    // What the watchdog said before that is read in this turn of the event loop at the latest.
    await new Promise((resolve) => setImmediate(resolve));
    assert.equal(watchdog.release(second.pid), true);
  });

  it("kills the processes that it still guards when it is told to end, and no others", async (t) => {
    const watchdog = startWatchdog(t);
    const [guarded, released] = await Promise.all([start(t, DEAF), start(t, DEAF)]);
    watchdog.guard(guarded.pid, null);
    watchdog.guard(released.pid, null);
    watchdog.release(released.pid);
    watchdog.end();
    assert.deepEqual(await guarded.ended, [null, "SIGKILL"]);
    await until("it has gone", () => !isRunning(watchdog.pid ?? 0));
    assert.ok(isRunning(released.pid));
  });

  it("kills nothing when it is told to end after all it guarded was released", async (t) => {
    const session = randomUUID();
    const watchdog = startWatchdog(t, undefined, undefined, session);
    const released = await start(t, DEAF, session);
    watchdog.guard(released.pid, null);
    watchdog.release(released.pid);
    watchdog.end();
    await until("it has gone", () => !isRunning(watchdog.pid ?? 0));
    assert.ok(isRunning(released.pid));
  });

  it("is started again each time it dies, each time later, with all that it guards; each restart is reported", async (t) => {
    const said: string[] = [];
    let restarts = 0;
    const watchdog = startWatchdog(
      t,
      (error) => said.push(String(error)),
      () => restarts++,
    );
    const [polite, kept] = await Promise.all([start(t, POLITE), start(t, DEAF)]);
    watchdog.guard(polite.pid, mortal(LONG_MS));
    watchdog.guard(kept.pid, null);
    for (let time = 1; time <= 3; time++) {
      process.kill(watchdog.pid ?? assert.fail(), "SIGKILL");
      await until("there is another", () => restarts === time);
    }
    assert.deepEqual(
      said.filter((text) => text.includes("starting it again")),
      [50, 100, 200].map((ms) => `Error: the watchdog ended (SIGKILL); starting it again in ${ms} ms`),
    );
    watchdog.leaseHolds(0);
    assert.deepEqual(await polite.ended, [7, null]);
    watchdog.end();
    assert.deepEqual(await kept.ended, [null, "SIGKILL"]);
  });
});

describe("a watchdog that cannot be started", () => {
  it("is tried again, each time later, until it starts; each try is reported", async (t) => {
    const { execPath } = process;
    t.after(() => (process.execPath = execPath));
    process.execPath = "/nowhere/node";
    const said: string[] = [];
    let restarts = 0;
    const watchdog = startWatchdog(
      t,
      (error) => said.push(String(error)),
      () => restarts++,
    );
    const guarded = await start(t, DEAF);
    watchdog.guard(guarded.pid, null);
    await until("it was tried twice", () => said.length >= 2);
    assert.deepEqual(
      said.slice(0, 2),
      [50, 100].map((ms) => `Error: the watchdog could not be started; starting it again in ${ms} ms`),
    );
    assert.deepEqual([watchdog.pid, restarts], [null, 0]);
    process.execPath = execPath;
    await until("it is there", () => watchdog.pid !== null);
    assert.equal(restarts, 1);
    watchdog.end();
    assert.deepEqual(await guarded.ended, [null, "SIGKILL"]);
  });
});
