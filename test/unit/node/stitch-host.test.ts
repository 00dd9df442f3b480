import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import type { ClusterEvent } from "../../../src/domain/event.ts";
import type { StitchStep } from "../../../src/domain/job/job.ts";
import type { Eligibility } from "../../../src/domain/node/node.ts";
import { stitchSpec } from "../../../src/domain/stitch/spec.ts";
import { type Health, REMOVED_KEPT_MS, removedRecord, type StitchRecord } from "../../../src/domain/stitch/stitch.ts";
import type { Exit, StartContext, Started, StitchInstance } from "../../../workers/node/protocol/adaptor.ts";
import { StitchDisk } from "../../../workers/node/stitches/stitch-disk.ts";
import { StitchHost } from "../../../workers/node/stitches/stitch-host.ts";
import { StitchRegistry } from "../../../workers/node/stitches/stitch-registry.ts";
import { settled } from "../../support/settled.ts";
import { testStitch } from "../../support/test-stitch.ts";
import { hostOptions } from "../../support/host-options.ts";
import { stored } from "../../support/test-spec.ts";

/** One run of a stitch. It comes up, answers and ends when the test tells it to. */
class Run implements StitchInstance {
  readonly pid = 4711;
  readonly #started = Promise.withResolvers<Started>();
  readonly #exited = Promise.withResolvers<Exit>();
  readonly started = this.#started.promise;
  readonly exited = this.#exited.promise;
  readonly context: StartContext;
  /** The grace periods within which it was asked to stop. */
  readonly stops: number[] = [];

  constructor(context: StartContext) {
    this.context = context;
  }

  up(): void {
    this.#started.resolve({ kind: "running" });
  }

  health(health: Health): void {
    this.context.onHealth(health);
  }

  end(code: number | null, signal: string | null = null, stderrTail?: string): void {
    const error = { code: "exited_early", message: "it was not up yet" } as const;
    this.#started.resolve({ kind: "failed", error });
    this.#exited.resolve({ code, signal, ...(stderrTail === undefined ? {} : { stderrTail }) });
  }

  stop(graceMs: number): Promise<Exit> {
    this.stops.push(graceMs);
    return this.exited;
  }
}

/** A host on `n1` in its own folder. Its runs do what the test says, and its timers are the test's. */
function hosting(t: TestContext) {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const dir = mkdtempSync(join(tmpdir(), "cs-"));
  const diskErrors: unknown[] = [];
  const disk = new StitchDisk(dir, (error) => diskErrors.push(error));
  const clock = { nowMs: 1000 };
  const orders: { eligibility: Eligibility } = { eligibility: "eligible" };
  const runs: Run[] = [];
  const published = new Map<string, StitchRecord>();
  const events: ClusterEvent[] = [];
  const run = (context: StartContext) => {
    const made = new Run(context);
    runs.push(made);
    return made;
  };
  const registry = new StitchRegistry();
  const host = new StitchHost(
    hostOptions(run, {
      registry,
      disk,
      nowMs: () => clock.nowMs,
      eligibility: () => orders.eligibility,
      publish: (changes, told) => {
        for (const change of changes) if (change.kind === "set") published.set(change.record.id, change.record);
        events.push(...told);
      },
      onError: (error) => assert.fail(String(error)),
    }),
  );
  t.after(async () => {
    for (const each of runs) each.end(0);
    await host.stopAll(0);
    // Reading a log waits for what is being written.
    for (const id of published.keys()) await registry.log(id)?.tail(1);
    await disk.close();
    rmSync(dir, { recursive: true, force: true });
  });
  const record = (id = "a") => published.get(id) ?? assert.fail(`no record of ${id}`);
  return { host, registry, disk, diskErrors, dir, clock, orders, runs, record, events };
}

const at = (revision: number) => ({ revision, wave: 0 });
const create = (restart: object = {}, id = "a"): Extract<StitchStep, { action: "create" }> => ({
  action: "create",
  stitch: `n1:${id}`,
  group: "a.b.1",
  specHash: stored(stitchSpec.parse({ adaptor: "process", command: ["x"], restart })).specHash,
  start: true,
  timeoutMs: 30_000,
});
const step = (action: "start" | "stop" | "restart" | "remove", id = "a"): StitchStep => ({
  action,
  stitch: `n1:${id}`,
  timeoutMs: 30_000,
});
/** A host with the stitch `a` running, created by revision 1. */
async function running(t: TestContext, restart: object = {}) {
  const hosted = hosting(t);
  const created = hosted.host.apply(create(restart), at(1));
  await settled();
  hosted.runs[0]?.up();
  assert.equal((await created).status, "succeeded");
  return { ...hosted, first: hosted.runs[0] ?? assert.fail() };
}

test("an equal revision gets the recorded outcome, an older one is superseded; neither is applied", async (t) => {
  const { host, runs, first } = await running(t);
  const stopping = host.apply(step("stop"), at(3));
  await settled();
  first.end(0);
  const stopped = await stopping;
  assert.deepEqual(await host.apply(step("stop"), at(3)), stopped);
  assert.deepEqual(await host.apply(step("start"), at(3)), stopped, "whatever it asks for");
  for (const action of ["start", "restart", "remove", "stop"] as const)
    assert.equal((await host.apply(step(action), at(2))).status, "superseded");
  assert.equal(runs.length, 1);
});

test("a step whose record the disk refuses does nothing; given again when there is room, it does all", async (t) => {
  const { host, registry, diskErrors, dir, runs, events } = hosting(t);
  // A folder is in the place where the journal is to be written anew.
  const blocker = join(dir, "stitches.jsonl.new");
  mkdirSync(blocker);
  await assert.rejects(host.apply(create(), at(1)), /stitches\.jsonl cannot be written; see to its disk/);
  assert.ok(diskErrors.length > 0);
  const next = () =>
    new StitchDisk(dir, assert.ifError).load().stitches.map(({ id, outcome }) => [id, outcome?.status]);
  assert.deepEqual([next(), runs.length, registry.ids(), events], [[], 0, [], []], "and nothing of it is left");
  rmdirSync(blocker);
  const created = host.apply(create(), at(1));
  await settled();
  runs[0]?.up();
  assert.equal((await created).status, "succeeded");
  await settled();
  assert.deepEqual(next(), [["a", "succeeded"]]);
});

test("a stitch whose removal the disk refuses runs on as it was", async (t) => {
  const { host, disk, runs, record } = await running(t);
  const before = record();
  const full = t.mock.method(disk, "written", () => Promise.reject(new Error("no room")));
  for (const action of ["remove", "stop", "restart"] as const)
    await assert.rejects(host.apply(step(action), at(2)), /no room/);
  assert.deepEqual({ ...record(), observedAtMs: 0 }, { ...before, observedAtMs: 0 });
  assert.deepEqual(
    runs.map(({ stops }) => stops),
    [[]],
  );
  full.mock.restore();
  const removed = host.apply(step("remove"), at(2));
  await settled();
  runs[0]?.end(0);
  assert.equal((await removed).status, "succeeded");
});

test("a removal that Redis knows counts for more than what the disk has of its step", async (t) => {
  const { host, registry, disk } = hosting(t);
  const removed = removedRecord.parse({
    id: "a",
    group: "a.b.1",
    revision: "2.0",
    born: "1.0",
    outcome: null,
    removedAtMs: 0,
  });
  const stitch = (revision: string) => testStitch("a", { revision });
  host.merge({ stitches: [stitch("2.0")], removed: [] });
  host.merge({ stitches: [], removed: [removed] });
  assert.deepEqual(registry.ids(), []);
  host.merge({ stitches: [stitch("2.0")], removed: [] });
  assert.deepEqual(registry.ids(), [], "nor does it come back");
  host.merge({ stitches: [stitch("3.0")], removed: [removed] });
  assert.deepEqual(registry.ids(), ["a"], "a newer one is another");
  await disk.written();
});

test("a stitch under the id of a removed one finds nothing of it, and its remains are kept for their time", async (t) => {
  const { host, registry, runs, dir, clock } = await running(t);
  const lines = async () => (await registry.log("a")?.tail(10))?.lines.map(({ line }) => line);
  const files = () => (runs.at(-1) === undefined ? [] : readdirSync(runs.at(-1)?.context.dataDir ?? ""));
  /** The folders of removed stitches, in the order of their removal. */
  const aside = () => readdirSync(join(dir, "removed")).sort();
  const apply = async (revision: number, action: "remove" | "create") => {
    const count = runs.length;
    const applied = host.apply(action === "create" ? create() : step(action), at(revision));
    await settled();
    if (action === "remove") runs.at(-1)?.end(0);
    else assert.equal(runs.length, count + 1);
    runs.at(-1)?.up();
    assert.equal((await applied).status, "succeeded");
  };
  const removedAtMs = (life: number) => Date.UTC(2026, 10, 30) + 1000 * life;
  for (const life of [1, 2]) {
    assert.deepEqual([files(), await lines()], [[], []]);
    writeFileSync(join(runs.at(-1)?.context.dataDir ?? "", `of-${life}`), "");
    await runs.at(-1)?.context.log("stdout", `said by ${life}`);
    assert.deepEqual(await lines(), [`said by ${life}`]);
    clock.nowMs = removedAtMs(life);
    const log = registry.log("a") ?? assert.fail();
    await apply(2 * life, "remove");
    await apply(2 * life + 1, "create");
    assert.deepEqual(
      (await log.tail(10)).lines.map(({ line }) => line),
      [`said by ${life}`],
      "who reads the old log reads on",
    );
  }
  assert.deepEqual([files(), await lines()], [[], []]);
  assert.deepEqual(aside(), [`a.${removedAtMs(1)}`, `a.${removedAtMs(2)}`]);
  for (const life of [1, 2]) {
    assert.deepEqual(readdirSync(join(dir, "removed", `a.${removedAtMs(life)}`, "data")), [`of-${life}`]);
    assert.match(
      readFileSync(join(dir, "removed", `a.${removedAtMs(life)}`, "a.log"), "utf8"),
      new RegExp(`said by ${life}"`),
    );
  }
  clock.nowMs = removedAtMs(1) + REMOVED_KEPT_MS + 500;
  assert.deepEqual(await host.prune(), []);
  await settled();
  assert.deepEqual(aside(), [`a.${removedAtMs(2)}`]);
});

test("a newer command takes over from a start that does not come up", async (t) => {
  const { host, runs, record } = hosting(t);
  const created = host.apply(create(), at(1));
  await settled();
  const stopping = host.apply(step("stop"), at(2));
  assert.equal((await created).status, "superseded");
  await settled();
  assert.equal(record().state, "stopping");
  runs[0]?.end(0);
  assert.equal((await stopping).status, "succeeded");
  assert.deepEqual([record().state, record().desired, runs.length], ["stopped", "stopped", 1]);
});

for (const action of ["start", "restart"] as const) {
  test(`a ${action} that a newer command has overtaken before its turn does not delay that command`, async (t) => {
    const { host, runs, first, record } = await running(t);
    const stopped = host.apply(step("stop"), at(2));
    const overtaken = host.apply(step(action), at(3));
    const last = host.apply(step("stop"), at(4));
    await settled();
    first.end(0);
    assert.equal((await stopped).status, "succeeded");
    assert.equal((await overtaken).status, "superseded");
    assert.equal((await last).status, "succeeded");
    assert.deepEqual([record().state, record().desired, runs.length], ["stopped", "stopped", 1]);
  });
}

test("a command for a stitch that has moved away says where the stitch is", async (t) => {
  const { host, first } = await running(t);
  const moving = host.apply({ action: "remove", stitch: "n1:a", timeoutMs: 1000, movedTo: "n2:a" }, at(2));
  await settled();
  first.end(0);
  assert.equal((await moving).status, "succeeded");
  const late = await host.apply(step("stop"), at(3));
  assert.deepEqual([late.status, late.error?.code], ["superseded", "superseded"]);
  assert.match(late.error?.message ?? "", /n2:a/);
});

test("a late removal does not report a stitch as removed that has moved away and lives on", async (t) => {
  const { host, first } = await running(t);
  const moving = host.apply({ action: "remove", stitch: "n1:a", timeoutMs: 1000, movedTo: "n2:a" }, at(2));
  await settled();
  first.end(0);
  await moving;
  const late = await host.apply(step("remove"), at(3));
  assert.equal(late.status, "superseded");
  assert.match(late.error?.message ?? "", /n2:a/);
});

test("a step that means another stitch does nothing to the one that has the id now", async (t) => {
  const { host, registry, runs, record } = await running(t);
  const before = record();
  assert.equal(before.born, "1.0");
  const meant = { stitch: "n1:a", timeoutMs: 1000, born: "7.0" } as const;
  for (const action of ["start", "stop", "restart", "remove", "settle"] as const) {
    const { status, changed } = await host.apply({ ...meant, action }, at(9));
    assert.deepEqual([action, status, changed], [action, "superseded", false]);
  }
  const undo = { ...meant, action: "remove", arrivingFrom: "n2:a" } as const;
  assert.equal((await host.apply(undo, at(9))).status, "superseded");
  assert.equal((await host.apply({ ...create(), born: "7.0", restores: true }, at(9))).status, "superseded");
  assert.deepEqual([record(), runs.length, registry.ids()], [before, 1, ["a"]]);
  const stopping = host.apply({ ...meant, action: "stop", born: "1.0" }, at(9));
  await settled();
  runs[0]?.end(0);
  assert.deepEqual([(await stopping).status, record().state], ["succeeded", "stopped"]);
});

test("a step that means another stitch does not end the start of the one that has the id now", async (t) => {
  const { host, runs, record } = hosting(t);
  const created = host.apply(create(), at(8));
  await settled();
  const late = host.apply({ action: "remove", stitch: "n1:a", timeoutMs: 1000, born: "7.0" }, at(9));
  await settled();
  runs[0]?.up();
  assert.deepEqual([(await created).status, (await late).status], ["succeeded", "superseded"]);
  assert.deepEqual([record().state, record().born], ["running", "8.0"]);
});

test("a restored stitch is the one that it was; what another has left under its id is not restored", async (t) => {
  const { host, registry, runs, record } = await running(t);
  const remove = async (revision: number) => {
    const removing = host.apply(step("remove"), at(revision));
    await settled();
    runs.at(-1)?.end(0);
    assert.equal((await removing).status, "succeeded");
  };
  await remove(2);
  const back = host.apply({ ...create(), restores: true, born: "1.0" }, at(3));
  await settled();
  runs[1]?.up();
  assert.equal((await back).status, "succeeded");
  assert.deepEqual([record().born, record().revision], ["1.0", "3.0"]);
  await remove(4);
  const other = await host.apply({ ...create(), restores: true, born: "9.0" }, at(10));
  assert.deepEqual([other.status, registry.ids()], ["superseded", []]);
});

test("a tombstone removes only the stitch that it means, not another that has the id since", async (t) => {
  const { host, registry, runs, record } = await running(t);
  const word = { revision: "9.0", movedTo: "n2:a", arrivingFrom: null };
  host.obey(new Map([["a", { ...word, born: "7.0" }]]));
  await settled();
  assert.deepEqual([registry.ids(), record().desired], [["a"], "running"]);
  host.obey(new Map([["a", { ...word, born: "1.0" }]]));
  await settled();
  runs[0]?.end(0);
  await settled();
  assert.deepEqual([registry.ids(), registry.movedTo("a")], [[], "n2:a"]);
});

test("confirmArrival confirms only the move of the stitch with that born, not of another with the id", async (t) => {
  const { host, registry, runs, record } = hosting(t);
  const created = host.apply({ ...create(), movedFrom: "n2:a", born: "3.0" }, at(5));
  await settled();
  runs[0]?.up();
  await created;
  assert.deepEqual(registry.arriving(), [{ id: "a", movedFrom: "n2:a", born: "3.0" }]);
  host.confirmArrival("a", "5.0");
  assert.equal(record().movedFrom, "n2:a");
  host.confirmArrival("a", "3.0");
  assert.deepEqual([record().movedFrom, registry.arriving()], [null, []]);
});

test("a draining node takes no new stitch, whatever was planned before; the stitches on it go on", async (t) => {
  const { host, registry, orders, runs, first } = await running(t);
  orders.eligibility = "draining";
  const refused = await host.apply(create({}, "b"), at(2));
  assert.deepEqual([refused.status, refused.error?.code], ["superseded", "superseded"]);
  assert.match(refused.error?.message ?? "", /draining/);
  assert.deepEqual(registry.ids(), ["a"]);
  assert.equal((await host.apply(create(), at(1))).status, "succeeded", "its own step again");
  const removing = host.apply(step("remove"), at(3));
  await settled();
  first.end(0);
  assert.equal((await removing).status, "succeeded");
  const back = host.apply({ ...create(), restores: true, born: "1.0" }, at(4));
  await settled();
  runs[1]?.up();
  assert.equal((await back).status, "succeeded", "what was here, and is taken back, is not new");
});

test("a create that is refused because its id is taken does not disturb the start of the stitch that has it", async (t) => {
  const { host, runs, record } = hosting(t);
  const created = host.apply(create(), at(1));
  await settled();
  const second = host.apply(create(), at(2));
  await settled();
  runs[0]?.up();
  assert.equal((await created).status, "succeeded");
  assert.deepEqual([(await second).status, record().state, record().revision], ["failed", "running", "1.0"]);
});

test("a stitch that is red when it comes up has that health, and turns green with an event", async (t) => {
  const { host, runs, record, events } = hosting(t);
  const created = host.apply(create(), at(1));
  await settled();
  runs[0]?.health("red");
  runs[0]?.up();
  await created;
  assert.deepEqual([record().state, record().health], ["running", "red"]);
  runs[0]?.health("yellow");
  runs[0]?.health("green");
  assert.equal(record().health, "green");
  const told = events.filter(({ type }) => type === "stitch.health").map(({ data }) => data?.["health"]);
  assert.deepEqual(told, ["red", "green"]);
});

test("a worker that leaves hands back what has not come up, and starts nothing more", async (t) => {
  const { host, runs, first, record } = await running(t);
  const restarting = host.apply(step("restart"), at(2));
  const starting = host.apply(create({}, "b"), at(3));
  await settled();
  const left = host.stopAll(5000);
  const late = host.apply(create({}, "c"), at(4));
  for (const each of [restarting, starting, late]) each.catch(() => undefined);
  await settled();
  first.end(0);
  runs[1]?.end(0);
  await left;
  for (const each of [restarting, starting, late]) await assert.rejects(each, { name: "WorkerLeaves" });
  assert.equal(runs.length, 2);
  for (const id of ["a", "b"]) {
    const { state, desired, outcome } = record(id);
    assert.deepEqual([state, desired, outcome], ["stopped", "running", null], id);
  }
});

test("a worker that leaves does not leave a stitch in wait for a restart that will not come", async (t) => {
  const { host, first, record } = await running(t);
  first.end(3);
  await settled();
  assert.equal(record().state, "backoff");
  await host.stopAll(5000);
  assert.deepEqual([record().state, record().desired], ["stopped", "running"]);
});

for (const [said, restart, exit, expected] of [
  ["ran", {}, null, "starting"],
  ["waited for its restart", {}, [3, null], "starting"],
  ["was ended with its worker", {}, "leave", "starting"],
  ["ended well, and is not to run again", { policy: "on-failure" }, [0, null], "stopped"],
  ["ended well, and never is to run again", { policy: "never" }, [0, null], "stopped"],
  ["failed", { policy: "never" }, [null, "SIGKILL"], "failed"],
  ["crashed in a loop", { maxRestarts: 0 }, [3, null], "failed"],
] as const) {
  test(`after a restart of the worker, a stitch that ${said}: ${expected}`, async (t) => {
    const former = await running(t, restart);
    if (exit === "leave") {
      const left = former.host.stopAll(0);
      former.first.end(0);
      await left;
    } else if (exit !== null) former.first.end(exit[0], exit[1]);
    await settled();
    t.mock.timers.reset();
    const { host, registry, runs, record } = hosting(t);
    host.merge(former.disk.load());
    host.resume();
    await settled();
    const [change] = registry.snapshot();
    assert.equal(change?.kind === "set" && change.record.state, expected);
    assert.equal(runs.length, expected === "starting" ? 1 : 0);
    const started = host.apply(step("start"), at(9));
    await settled();
    runs[0]?.up();
    assert.equal((await started).status, "succeeded", "a command starts it whatever it was");
    assert.equal(record().state, "running");
  });

  test(`after a lapse of the lease, a stitch that ${said} goes on as it was`, async (t) => {
    if (exit === "leave") return;
    const { host, runs, first, record } = await running(t, restart);
    if (exit !== null) first.end(exit[0], exit[1]);
    await settled();
    const { state } = record();
    host.merge({ stitches: [record()], removed: [] });
    host.leaseIsBack();
    await settled();
    assert.deepEqual([record().state, runs.length], [state, 1]);
  });
}

/** A restart of `a`. The new run is up, and must be healthy for 5 s. */
async function proving(t: TestContext, restart: object = {}) {
  const hosted = await running(t, restart);
  const { host, runs, first, clock } = hosted;
  const outcome = host.apply({ ...step("restart"), minHealthyMs: 5000 } as StitchStep, at(2));
  let isDone = false;
  outcome.finally(() => (isDone = true)).catch(() => undefined);
  await settled();
  first.end(0);
  await settled();
  const run = runs[1] ?? assert.fail();
  run.up();
  await settled();
  const pass = async (ms: number) => {
    clock.nowMs += ms;
    t.mock.timers.tick(ms);
    await settled();
  };
  return { ...hosted, outcome, run, pass, isDone: () => isDone };
}

test("a start succeeds when the stitch has been healthy for minHealthyMs, counted from when it is up", async (t) => {
  const { outcome, pass, isDone, record } = await proving(t);
  assert.deepEqual([record().state, record().health, record().healthySinceMs], ["running", "green", 1000]);
  await pass(4999);
  assert.equal(isDone(), false);
  await pass(1);
  assert.equal((await outcome).status, "succeeded");
});

test("a stitch that dies after three seconds has not come up: exited_early, with what it printed", async (t) => {
  const { outcome, pass, run, record } = await proving(t);
  await pass(3000);
  run.end(3, null, "Error: no port is set");
  const { status, error, changed } = await outcome;
  assert.deepEqual([status, changed, error?.code], ["failed", true, "exited_early"]);
  assert.match(error?.message ?? "", /it exited with code 3 before it had been well for 5000 ms/);
  assert.equal(error?.stderrTail, "Error: no port is set");
  assert.equal(record().state, "backoff", "it stays under its policy");
});

test("a stitch that turns yellow starts its healthy time anew; if that is not over in time, it is unhealthy", async (t) => {
  const { outcome, pass, run, isDone, record } = await proving(t);
  await pass(4000);
  run.health("yellow");
  assert.equal(record().healthySinceMs, null);
  await pass(4000);
  run.health("green");
  await pass(4000);
  assert.equal(isDone(), false);
  run.health("red");
  // The time to come up, and the time to be healthy.
  await pass(35_000 - 12_000);
  const { status, error } = await outcome;
  assert.deepEqual([status, error?.code], ["failed", "unhealthy"]);
});

test("a stitch that turns green again in time succeeds when it was green for long enough", async (t) => {
  const { outcome, pass, run, isDone } = await proving(t);
  run.health("yellow");
  await pass(2000);
  run.health("green");
  await pass(4999);
  assert.equal(isDone(), false);
  await pass(1);
  assert.equal((await outcome).status, "succeeded");
});

test("a stitch that runs to its end meanwhile, as its policy allows, has succeeded", async (t) => {
  const { outcome, pass, run, record } = await proving(t, { policy: "on-failure" });
  await pass(1000);
  run.end(0);
  assert.deepEqual([(await outcome).status, record().state], ["succeeded", "stopped"]);
});

test("a newer command does not wait until a stitch has been healthy for long enough", async (t) => {
  const { host, outcome, run } = await proving(t);
  const stopping = host.apply(step("stop"), at(3));
  assert.equal((await outcome).status, "superseded");
  await settled();
  run.end(0);
  assert.equal((await stopping).status, "succeeded");
});

test("a worker that leaves while a stitch must be healthy for a while hands its step back", async (t) => {
  const { host, outcome, run } = await proving(t);
  const left = host.stopAll(1000);
  run.end(0);
  await assert.rejects(outcome, { name: "WorkerLeaves" });
  await left;
});

test("a stop ends the wait for an automatic restart, and a start does not wait for it", async (t) => {
  const { host, runs, first, record } = await running(t, { backoffMs: 60_000, maxBackoffMs: 60_000 });
  first.end(3);
  await settled();
  assert.deepEqual([record().state, record().restarts], ["backoff", 1]);
  const stopped = await host.apply(step("stop"), at(2));
  assert.deepEqual([stopped.status, stopped.changed, record().state], ["succeeded", true, "stopped"]);
  t.mock.timers.tick(100_000);
  await settled();
  assert.equal(runs.length, 1);

  const started = host.apply(step("start"), at(3));
  await settled();
  runs[1]?.up();
  assert.equal((await started).status, "succeeded");
  runs[1]?.end(3);
  await settled();
  assert.deepEqual([record().state, record().restarts], ["backoff", 1]);
  const again = host.apply(step("start"), at(4));
  await settled();
  assert.deepEqual([record().state, record().restarts, runs.length], ["starting", 0, 3]);
  runs[2]?.up();
  assert.equal((await again).changed, true);
});

test("an automatic restart that is due during a command waits, and is dropped if the command has decided", async (t) => {
  const { host, runs, first, record } = await running(t);
  first.end(3);
  await settled();
  const stopped = host.apply(step("stop"), at(2));
  t.mock.timers.tick(60_000);
  assert.equal((await stopped).status, "succeeded");
  await settled();
  assert.deepEqual([record().state, runs.length], ["stopped", 1]);
});

test("of many slow starts, one begins in each turn of the event loop, so that a heartbeat comes between", async (t) => {
  const { host, runs } = hosting(t);
  // The time that it takes to start a process, while the event loop is blocked.
  t.mock.method(performance, "now", () => 10 * runs.length);
  const started = Array.from({ length: 20 }, (_, index) => host.apply(create({}, `s${index}`), at(index + 1)));
  const seen: number[] = [];
  while (runs.length < started.length) {
    await new Promise((resolve) => setImmediate(resolve));
    seen.push(runs.length - seen.reduce((sum, each) => sum + each, 0));
  }
  assert.ok(Math.max(...seen) <= 1, `started in each turn: ${seen.join(" ")}`);
  for (const run of runs) run.up();
  assert.ok((await Promise.all(started)).every(({ status }) => status === "succeeded"));
});
