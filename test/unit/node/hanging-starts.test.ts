import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import type { StitchStep } from "../../../src/domain/job/job.ts";
import { stitchSpec } from "../../../src/domain/stitch/spec.ts";
import type { StitchRecord } from "../../../src/domain/stitch/stitch.ts";
import type { Exit, StartContext, Started, StitchInstance } from "../../../workers/node/protocol/adaptor.ts";
import { StitchDisk } from "../../../workers/node/stitches/stitch-disk.ts";
import { StitchHost } from "../../../workers/node/stitches/stitch-host.ts";
import { StitchRegistry } from "../../../workers/node/stitches/stitch-registry.ts";
import type { StitchLog } from "../../../workers/node/logs/stitch-log.ts";
import { settled } from "../../support/settled.ts";
import { hostOptions } from "../../support/host-options.ts";
import { stored } from "../../support/test-spec.ts";

const PLACES = 50;
/** How long these tests let a stitch come up. No test reaches this limit. */
const TIMEOUT_MS = 3_600_000;

/** A program that never comes up unless it is told to, and ends when it is asked to. */
class Run implements StitchInstance {
  readonly pid = 4711;
  readonly id: string;
  readonly #started = Promise.withResolvers<Started>();
  readonly #exited = Promise.withResolvers<Exit>();
  readonly started = this.#started.promise;
  readonly exited = this.#exited.promise;

  constructor({ id }: StartContext) {
    this.id = id;
  }

  up(): void {
    this.#started.resolve({ kind: "running" });
  }

  exit(code: number): void {
    this.#started.resolve({ kind: "failed", error: { code: "exited_early", message: "it was not up yet" } });
    this.#exited.resolve({ code, signal: null });
  }

  stop(): Promise<Exit> {
    this.exit(0);
    return this.exited;
  }
}

/** A host whose stitches never come up by themselves. Its timers are the test's. */
function hosting(t: TestContext) {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const dir = mkdtempSync(join(tmpdir(), "cs-"));
  const disk = new StitchDisk(dir, assert.ifError);
  const runs: Run[] = [];
  const published = new Map<string, StitchRecord>();
  const logs = new Set<StitchLog>();
  let folders = 0;
  const makeDataDir = () => {
    folders += 1;
    return Promise.resolve(dir);
  };
  const run = (context: StartContext) => {
    const made = new Run(context);
    runs.push(made);
    return made;
  };
  const registry = new StitchRegistry();
  const host = new StitchHost(
    hostOptions(run, {
      registry,
      // Data folders do not matter here, and it takes long to make ten thousand of them.
      disk: Object.assign(disk, { makeDataDir }),
      nowMs: () => 1000,
      publish: (changes) => {
        for (const change of changes) {
          if (change.kind !== "set") continue;
          published.set(change.record.id, change.record);
          logs.add(registry.log(change.record.id) ?? assert.fail());
        }
      },
      onError: (error) => assert.fail(String(error)),
    }),
  );
  t.after(async () => {
    await host.stopAll(0);
    // Reading a log waits for what is being written.
    await Promise.all([...logs].map((log) => log.tail(1)));
    await disk.close();
    rmSync(dir, { recursive: true, force: true });
  });
  return { host, registry, disk, runs, published, folders: () => folders };
}

const at = (revision: number) => ({ revision, wave: 0 });
const { specHash } = stored(
  stitchSpec.parse({ adaptor: "process", command: ["x"], restart: { policy: "on-failure" } }),
);
const step = (action: "create" | "start" | "stop" | "restart" | "remove", id: string): StitchStep =>
  action === "create"
    ? { action, stitch: `n1:${id}`, group: "a.b.1", specHash, start: true, timeoutMs: TIMEOUT_MS }
    : { action, stitch: `n1:${id}`, timeoutMs: TIMEOUT_MS };

/** Waits for a condition that needs no timer, only turns of the event loop and the disk. */
async function until(what: string, isSo: () => boolean, withinMs = 60_000): Promise<void> {
  for (const endMs = performance.now() + withinMs; performance.now() < endMs; ) {
    if (isSo()) return;
    await new Promise((resolve) => setImmediate(resolve));
  }
  assert.fail(`not within ${withinMs} ms: ${what}`);
}
const ids = (count: number) => Array.from({ length: count }, (_, index) => `s${index}`);

/** Creates `count` stitches whose starts hang: `PLACES` of them run, the others wait for a place. */
async function hanging(t: TestContext, count: number) {
  const hosted = hosting(t);
  const outcomes = ids(count).map((id, index) => hosted.host.apply(step("create", id), at(index + 1)));
  await until("every stitch is on record", () => hosted.published.size === count);
  await until("the first of them run", () => hosted.runs.length === Math.min(count, PLACES));
  return { ...hosted, outcomes };
}

test("10,000 hanging starts are on record at once, begin 50 per second, and end at once at a newer stop", async (t) => {
  const count = 10_000;
  const { host, registry, runs, published, outcomes, folders } = await hanging(t, count);
  assert.ok([...published.values()].every(({ desired }) => desired === "running"));
  await until("the last one waits", () => registry.find(`s${count - 1}`)?.record.state === "starting");
  assert.deepEqual(registry.status("eligible").states, { starting: count }, "a drain must not take the node for empty");
  for (let second = 1; second <= 5; second++) {
    t.mock.timers.tick(999);
    await settled();
    assert.equal(runs.length, second * PLACES, "not before the second is over");
    t.mock.timers.tick(1);
    await until("the next ones run", () => runs.length === (second + 1) * PLACES);
  }
  const stops = ids(count).map((id) => host.apply(step("stop", id), at(count + 1)));
  const ended = await Promise.all(outcomes);
  assert.ok(ended.every(({ status, changed }) => status === "superseded" && changed));
  assert.ok((await Promise.all(stops)).every(({ status }) => status === "succeeded"));
  assert.ok([...published.values()].every(({ state, desired }) => state === "stopped" && desired === "stopped"));
  assert.equal(runs.length, 6 * PLACES, "nothing was started on the way");
  assert.equal(folders(), 6 * PLACES, "nor was a folder made for what was about to be stopped");
});

test("hanging starts do not delay the stop of a running stitch, and do not delay the next start for ever", async (t) => {
  const { host, runs } = await hanging(t, 3 * PLACES);
  const healthy = host.apply(step("create", "healthy"), at(1000));
  for (const running of [2 * PLACES, 3 * PLACES, 3 * PLACES + 1]) {
    t.mock.timers.tick(1000);
    // Only a start that runs gives its place back, one second later.
    await until("the next ones run", () => runs.length === running);
  }
  assert.equal(runs.at(-1)?.id, "healthy");
  runs.at(-1)?.up();
  assert.equal((await healthy).status, "succeeded");
  assert.equal((await host.apply(step("stop", "healthy"), at(1001))).status, "succeeded");
});

for (const action of ["stop", "remove", "restart", "start"] as const)
  test(`a ${action} overtakes a start of the same stitch that waits for its place`, async (t) => {
    const { host, registry, runs, outcomes, published } = await hanging(t, PLACES + 1);
    const last = `s${PLACES}`;
    const newer = host.apply(step(action, last), at(1000));
    assert.equal((await outcomes[PLACES])?.status, "superseded");
    if (action === "start" || action === "restart") {
      runs[0]?.up();
      await until("it runs", () => runs.length === PLACES + 1);
      runs.at(-1)?.up();
    }
    assert.equal((await newer).status, "succeeded");
    assert.deepEqual(registry.ids().includes(last), action !== "remove");
    assert.equal(runs.filter(({ id }) => id === last).length, action === "stop" || action === "remove" ? 0 : 1);
    if (action !== "remove") assert.equal(published.get(last)?.revision, "1000.0");
  });

test("a stop overtakes a start that has its place and waits for its turn", async (t) => {
  const { host, runs, outcomes } = await hanging(t, PLACES + 1);
  runs[0]?.up();
  // The start gets its place in the microtasks of this turn. Its own turn is the next one of the event loop or a later one.
  const stopped = host.apply(step("stop", `s${PLACES}`), at(1000));
  assert.equal((await outcomes[PLACES])?.status, "superseded");
  assert.equal((await stopped).status, "succeeded");
  assert.equal(runs.length, PLACES);
});

test("a step that comes again while its start waits is applied once, with the same answer for both", async (t) => {
  const { host, runs, outcomes } = await hanging(t, PLACES + 1);
  const again = host.apply(step("create", `s${PLACES}`), at(PLACES + 1));
  runs[0]?.up();
  await until("it runs", () => runs.length === PLACES + 1);
  runs.at(-1)?.up();
  assert.deepEqual(await again, await outcomes[PLACES]);
  assert.equal(runs.length, PLACES + 1);
});

test("a worker that leaves hands back the starts that wait for a place", async (t) => {
  const { host, registry, runs, outcomes } = await hanging(t, PLACES + 5);
  const ended = Promise.allSettled(outcomes);
  await host.stopAll(0);
  for (const each of await ended)
    assert.equal(each.status === "rejected" && (each.reason as Error).name, "WorkerLeaves");
  assert.equal(runs.length, PLACES);
  assert.deepEqual(registry.status("eligible").states, { stopped: PLACES + 5 });
});

test("after a worker restart, stitches come back at the same pace, and a stop does not wait for that", async (t) => {
  const former = await hanging(t, 2 * PLACES + 1);
  const left = Promise.allSettled(former.outcomes);
  await former.host.stopAll(0);
  await left;
  await former.disk.written();
  t.mock.timers.reset();
  const { host, registry, runs } = hosting(t);
  host.merge(former.disk.load());
  host.resume();
  host.resume();
  await until("the first of them run", () => runs.length === PLACES);
  await settled();
  assert.equal(runs.length, PLACES);
  await until("a drain sees each at work", () => registry.status("eligible").states.starting === 2 * PLACES + 1);
  const waits = ids(2 * PLACES + 1).find((id) => !runs.some((run) => run.id === id)) ?? assert.fail();
  const stopped = await host.apply(step("stop", waits), at(1000));
  assert.deepEqual([stopped.status, stopped.changed], ["succeeded", true]);
  t.mock.timers.tick(1000);
  await until("the others run", () => runs.length === 2 * PLACES);
  t.mock.timers.tick(1000);
  await settled();
  assert.equal(runs.length, 2 * PLACES, "each once, and not the one that was stopped");
});

test("a start command takes over the pending start of a stitch that comes back: it starts only once", async (t) => {
  const former = await hanging(t, PLACES + 1);
  const left = Promise.allSettled(former.outcomes);
  await former.host.stopAll(0);
  await left;
  await former.disk.written();
  t.mock.timers.reset();
  const { host, registry, runs } = hosting(t);
  host.merge(former.disk.load());
  host.resume();
  await until("the first of them run", () => runs.length === PLACES);
  const waits = ids(PLACES + 1).find((id) => !runs.some((run) => run.id === id)) ?? assert.fail();
  const started = host.apply(step("start", waits), at(1000));
  await settled();
  runs[0]?.up();
  runs[1]?.up();
  await until("it runs", () => runs.length === PLACES + 1);
  runs.at(-1)?.up();
  runs.at(-1)?.exit(0);
  assert.equal((await started).status, "succeeded");
  t.mock.timers.tick(1000);
  await settled();
  assert.deepEqual([registry.find(waits)?.record.state, runs.length], ["stopped", PLACES + 1]);
});

/** A tombstone that a Master has left for a stitch. It is newer than everything that was asked of the stitch. */
const removal = { revision: "1000.0", movedTo: null, arrivingFrom: null, born: null };

test("a stitch that a Master has removed meanwhile is not started, whatever its start waits for", async (t) => {
  const { host, registry, runs, outcomes } = await hanging(t, PLACES + 2);
  const outcomeOf = (id: string) => outcomes[Number(id.slice(1))];
  // Their folders are made at the same time, so any of them may be the first to run.
  const first = runs[1]?.id ?? assert.fail();
  runs[1]?.exit(3);
  await until("it waits for its restart", () => registry.find(first)?.record.state === "backoff");
  await until("another has its place", () => runs.length === PLACES + 1);
  assert.equal((await outcomeOf(first))?.status, "failed");
  await settled();
  const last = registry.ids().find((each) => !runs.some(({ id }) => id === each)) ?? assert.fail();
  host.obey(new Map([last, first].map((id) => [id, removal])));
  assert.equal((await outcomeOf(last))?.status, "superseded");
  await until("both are gone", () => !registry.ids().includes(last) && !registry.ids().includes(first));
  for (let second = 1; second <= 60; second++) {
    t.mock.timers.tick(1000);
    await settled();
  }
  assert.equal(runs.length, PLACES + 1);
});
