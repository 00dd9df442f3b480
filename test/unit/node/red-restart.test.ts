import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import type { ClusterEvent } from "../../../src/domain/event.ts";
import { stitchSpec } from "../../../src/domain/stitch/spec.ts";
import type { StitchRecord } from "../../../src/domain/stitch/stitch.ts";
import type { Exit, StartContext, StitchInstance } from "../../../workers/node/protocol/adaptor.ts";
import { StitchDisk } from "../../../workers/node/stitches/stitch-disk.ts";
import { StitchHost } from "../../../workers/node/stitches/stitch-host.ts";
import { StitchRegistry } from "../../../workers/node/stitches/stitch-registry.ts";
import { until } from "../../support/cluster.ts";
import { settled } from "../../support/settled.ts";
import { hostOptions } from "../../support/host-options.ts";
import { stored } from "../../support/test-spec.ts";

const FAILURE = "tcp 127.0.0.1:80: connect ECONNREFUSED";

/** One run of a program. It is up at once, and ends when the test says so. */
class Run implements StitchInstance {
  readonly pid = 4711;
  readonly started = Promise.resolve({ kind: "running" } as const);
  readonly #exited = Promise.withResolvers<Exit>();
  readonly exited = this.#exited.promise;
  readonly stops: number[] = [];
  stillThere = false;
  readonly context: StartContext;

  constructor(context: StartContext) {
    this.context = context;
  }

  red(): void {
    this.context.onHealth("red", FAILURE);
  }

  end(code: number): void {
    this.#exited.resolve({ code, signal: null });
  }

  async stop(graceMs: number): Promise<Exit> {
    this.stops.push(graceMs);
    if (this.stillThere) throw new Error("its process 4711 is still there");
    return this.exited;
  }
}

/** A host with the running stitch `a`, which has a check. */
async function running(t: TestContext, check: object = {}, restart: object = {}) {
  const dir = mkdtempSync(join(tmpdir(), "cs-"));
  const errors: unknown[] = [];
  const events: ClusterEvent[] = [];
  const runs: Run[] = [];
  const disk = new StitchDisk(dir, (error) => errors.push(error));
  let record: StitchRecord | null = null;
  const registry = new StitchRegistry();
  const run = (context: StartContext) => {
    const made = new Run(context);
    runs.push(made);
    return made;
  };
  const host = new StitchHost(
    hostOptions(run, {
      registry,
      disk,
      publish: (changes, told) => {
        for (const change of changes) if (change.kind === "set") record = change.record;
        events.push(...told);
      },
      onError: (error) => errors.push(error),
    }),
  );
  t.after(async () => {
    for (const each of runs) each.end(0);
    await host.stopAll(0);
    await disk.close();
    rmSync(dir, { recursive: true, force: true });
    assert.deepEqual(errors, []);
  });
  const spec = {
    adaptor: "process",
    protocol: "none",
    command: ["x"],
    check: { tcp: { port: 80 }, restartWhenRed: true, ...check },
    restart: { backoffMs: 10, ...restart },
    stopGraceMs: 70,
  };
  const { specHash } = stored(stitchSpec.parse(spec));
  const created = await host.apply(
    { action: "create", stitch: "n1:a", group: "a.b.1", specHash, start: true, timeoutMs: 10_000 },
    { revision: 1, wave: 0 },
  );
  assert.equal(created.status, "succeeded");
  const said = async () => ((await registry.log("a")?.tail(100))?.lines ?? []).map(({ line }) => line).join("\n");
  const now = () => record ?? assert.fail("no record");
  const stop = () => host.apply({ action: "stop", stitch: "n1:a", timeoutMs: 1000 }, { revision: 2, wave: 0 });
  const first = runs[0] ?? assert.fail();
  return { host, runs, first, events, said, now, stop };
}

test("a program whose check is red is stopped with its grace, and started again, however it ends", async (t) => {
  const { runs, first, events, said, now } = await running(t, {}, { policy: "on-failure" });
  first.red();
  await until("it is being stopped", () => first.stops.length > 0);
  assert.deepEqual([first.stops, now().state, now().health], [[70], "running", "red"]);
  first.end(0);
  await until("it runs again", () => runs.length === 2 && now().state === "running");
  assert.deepEqual([now().restarts, now().health], [1, "green"]);
  assert.deepEqual(events.find(({ type }) => type === "stitch.health")?.data, { health: "red", reason: FAILURE });
  assert.match(
    await said(),
    /it was stopped because its check was red: .*; starting it again in \d+ ms \(restart 1 of 5\)/,
  );
});

test("a red check changes nothing else where the spec does not ask for it", async (t) => {
  const { first, now } = await running(t, { restartWhenRed: false });
  first.red();
  await settled();
  assert.deepEqual([first.stops, now().health], [[], "red"]);
});

test("heartbeats that are red do not restart a program whose check is well", async (t) => {
  const { first, now } = await running(t);
  first.context.onHealth("red");
  await settled();
  assert.deepEqual([first.stops, now().health], [[], "red"]);
});

test("a program that is well again when its turn comes is not stopped", async (t) => {
  const { first, now } = await running(t);
  first.red();
  first.context.onHealth("green");
  await settled();
  await settled();
  assert.deepEqual([first.stops, now().health, now().state], [[], "green", "running"]);
});

test("a stop that comes while a red program is stopped has the last word", async (t) => {
  const { runs, first, now, stop } = await running(t);
  first.red();
  await until("it is being stopped", () => first.stops.length > 0);
  const stopped = stop();
  first.end(1);
  assert.equal((await stopped).status, "succeeded");
  assert.deepEqual([now().state, now().desired, runs.length], ["stopped", "stopped", 1]);
});

test("a worker that leaves meanwhile starts nothing", async (t) => {
  const { host, runs, first, now } = await running(t);
  first.red();
  await until("it is being stopped", () => first.stops.length > 0);
  const leaving = host.stopAll(5);
  first.end(1);
  await leaving;
  assert.deepEqual([first.stops, now().state, now().desired, runs.length], [[70, 5], "stopped", "running", 1]);
});

test("a red program that cannot be ended is told of in its log, and started again when it has ended", async (t) => {
  const { runs, first, now, said } = await running(t);
  first.stillThere = true;
  first.red();
  await until("its log says so", async () => /red, and it could not be stopped: .* still there/.test(await said()));
  assert.deepEqual([now().state, now().health], ["running", "red"]);
  first.end(0);
  await until("it runs again", () => runs.length === 2 && now().state === "running");
  assert.equal(now().restarts, 1);
});
