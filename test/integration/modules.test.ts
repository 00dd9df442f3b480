// Stitches that are modules inside the node worker.
import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import type { RequestError } from "../../src/domain/errors.ts";
import { type Part, REDISES, TestCluster, until, withCluster } from "../support/cluster.ts";
import { dataDirOf, journalOf, logOf } from "../support/stitch-folder.ts";

const url = REDISES[0]?.url ?? "";
const path = (name: string): string => join(import.meta.dirname, "../support/modules", name);
const MODULES = `habits=${path("habits.mjs")},outside=${path("outside.mjs")}`;
const spec = { adaptor: "module", module: "habits", heartbeatMs: 100, stopGraceMs: 1000 };

describe("a stitch that is a module", { concurrency: 4 }, () => {
  const cluster = new TestCluster(url);
  let worker: Part;
  before(async () => {
    await cluster.start();
    worker = await cluster.node("n1", { STITCH_MODULES: MODULES });
  });
  after(() => cluster.stop());

  /** Creates a stitch that behaves as `habit` says. Resolves with the job, which has ended. */
  const create = (id: string, habit: string, more: Record<string, unknown> = {}) =>
    cluster.run({ command: "stitch.create", target: `test.${habit}.1`, id, spec: { ...spec, ...more } });
  const start = async (id: string, habit: string, more: Record<string, unknown> = {}) => {
    const job = await create(id, habit, more);
    assert.equal(job.status, "succeeded", JSON.stringify(job));
  };
  const go = (id: string) => writeFileSync(join(dataDirOf(cluster, "n1", id), "go"), "");
  const journal = (id: string) => journalOf(cluster, "n1", id);
  const hooks = (id: string) => journal(id).flatMap(({ hook }) => (hook === "heartbeat" ? [] : [hook]));
  const log = (id: string, source: string) =>
    logOf(cluster, "n1", id).flatMap((entry) => (entry.source === source ? [entry.line] : []));
  const look = (id: string) => cluster.master.state.stitch(id);
  const turns = (id: string, health: string) =>
    until(`${id} turns ${health}`, async () => (await look(id)).health === health);
  const workerLives = async () => {
    const ping = await cluster.run({ command: "node.ping", target: "n1" });
    assert.deepEqual([ping.status, ping.tasks[0]?.steps[0]?.output], ["succeeded", { incarnation: 1 }]);
    assert.equal(worker.child.exitCode, null);
  };

  it("gets its start, heartbeats and stop through its hooks, with its own context", async () => {
    await start("one", "plain");
    await start("two", "plain");
    const { state, health, pid, node } = await look("one");
    assert.deepEqual([state, health, pid, node], ["running", "green", null, "n1"]);
    await until("it was asked thrice", () => journal("one").filter(({ hook }) => hook === "heartbeat").length >= 3);
    assert.deepEqual(journal("one")[0], {
      hook: "start",
      id: "one",
      node: "n1",
      group: "test.plain.1",
      application: "test",
      component: "plain",
      version: "1",
      dataDir: dataDirOf(cluster, "n1", "one"),
      state: null,
    });
    const stopped = await cluster.run({ command: "stitch.stop", target: "one" });
    assert.equal(stopped.status, "succeeded");
    assert.deepEqual(hooks("one"), ["start", "abort", "stop"]);
    const beats = journal("one").filter(({ hook }) => hook === "heartbeat");
    assert.deepEqual(
      beats.map((each) => each["beats"]),
      beats.map((_, index) => index + 1),
      "its state is its own",
    );
    const { lastExit } = await look("one");
    assert.deepEqual([lastExit?.code, lastExit?.signal], [0, null]);
    const count = journal("one").length;
    const others = journal("two").length;
    await until("the other goes on", () => journal("two").length >= others + 3);
    assert.equal(journal("one").length, count, "nothing of it runs on");
    assert.equal((await cluster.run({ command: "stitch.start", target: "one" })).status, "succeeded");
    const again = journal("one").findLast(({ hook }) => hook === "start");
    assert.equal(again?.["state"], null, "each run has a state of its own");
    await turns("one", "green");
  });

  it("logs line by line", async () => {
    await start("logs", "logs");
    await until("it is there", () => log("logs", "log").length >= 3);
    assert.deepEqual(log("logs", "log"), ["one", "two", "three"]);
  });

  for (const habit of ["start-rejects", "start-throws"]) {
    it(`${habit}: fails with exited_early, and the log says why`, async () => {
      const job = await create(habit, habit, { restart: { policy: "never" } });
      assert.deepEqual([job.status, job.error?.code], ["failed", "exited_early"]);
      const { state, lastExit } = await until("it has failed", async () => {
        const stitch = await look(habit);
        return stitch.state === "failed" ? stitch : null;
      });
      assert.deepEqual([state, lastExit?.code], ["failed", 1]);
      await until("its log says how", () => log(habit, "stderr").length > 0);
      assert.equal(log(habit, "stderr")[0], `Error: the fault of ${habit}`);
      await workerLives();
    });
  }

  it("comes up late: start_timeout first, then running", async () => {
    const body = { command: "stitch.create", target: "test.slow-start.1", id: "slow", spec, start: false } as const;
    await cluster.run(body);
    const job = await cluster.run({ command: "stitch.start", target: "slow", timeoutMs: 300 });
    assert.equal(job.error?.code, "start_timeout");
    assert.equal((await look("slow")).state, "starting");
    go("slow");
    await until("it runs", async () => (await look("slow")).state === "running");
    assert.deepEqual(hooks("slow"), ["start"]);
  });

  const FAULTS = ["timer", "immediate", "rejection", "async-function", "emitter", "no-error"];
  const UNHEARD = ["lost-message", "vain-question"];
  for (const habit of [...FAULTS, ...UNHEARD]) {
    it(`fails by itself (${habit}): its policy restarts it, and no other stitch`, async () => {
      const [faulty, sound] = [`${habit}-faulty`, `${habit}-sound`];
      await Promise.all([start(faulty, habit), start(sound, habit)]);
      const before = await look(sound);
      go(faulty);
      const restarted = await until("it runs again", async () => {
        const stitch = await look(faulty);
        return stitch.state === "running" && stitch.restarts === 1 ? stitch : null;
      });
      assert.deepEqual([restarted.lastExit?.code, restarted.lastExit?.signal], [1, null]);
      assert.deepEqual(hooks(faulty), ["start", "abort", "start"]);
      const after = await look(sound);
      assert.deepEqual([after.startedAt, after.restarts, after.state], [before.startedAt, 0, "running"]);
      assert.deepEqual(hooks(sound), ["start"]);
      await until("its log says how", () => log(faulty, "stderr").length > 0);
      const why = UNHEARD.includes(habit) ? "no-such-stitch" : `the fault of ${faulty}$`;
      assert.match(log(faulty, "stderr")[0] ?? "", new RegExp(why));
      assert.deepEqual(logOf(cluster, "n1", sound), []);
      await workerLives();
    });
  }

  it("fails again and again: its policy gives up, and the log says why", async () => {
    await create("loop", "start-rejects", { restart: { maxRestarts: 2, backoffMs: 10 } });
    await until("it has failed", async () => (await look("loop")).state === "failed");
    assert.deepEqual(hooks("loop").filter((hook) => hook === "start").length, 3);
    await until("its log says so", () => log("loop", "system").some((line) => /a crash loop/.test(line)));
  });

  for (const habit of ["abort-listener", "abort-rejection"]) {
    it(`fails while it stops (${habit}): it is stopped, and the log says why`, async () => {
      await start(habit, habit);
      const job = await cluster.run({ command: "stitch.stop", target: habit });
      assert.equal(job.status, "succeeded");
      assert.equal((await look(habit)).state, "stopped");
      await until("its log says how", () => log(habit, "stderr").length > 0);
      assert.equal(log(habit, "stderr")[0], `Error: the fault of ${habit}`);
      await workerLives();
    });
  }

  it("rejects in its stop hook: it is stopped, and the log says why", async () => {
    await start("bad-stop", "stop-rejects");
    assert.equal((await cluster.run({ command: "stitch.stop", target: "bad-stop" })).status, "succeeded");
    const { state, lastExit } = await look("bad-stop");
    assert.deepEqual([state, lastExit?.code], ["stopped", 1]);
    await until("its log says how", () => log("bad-stop", "stderr")[0] === "Error: the fault of bad-stop");
  });

  it("never ends its stop hook: it counts as stopped after its grace, and the log says so", async () => {
    await start("never-stops", "never-stops", { stopGraceMs: 200 });
    assert.equal((await cluster.run({ command: "stitch.stop", target: "never-stops" })).status, "succeeded");
    assert.equal((await look("never-stops")).state, "stopped");
    await until("its log says so", () => log("never-stops", "system").some((line) => /stop had not ended/.test(line)));
  });

  for (const [habit, note] of [
    ["heart-throws", /its heartbeat failed: the fault of heart-throws/],
    ["heart-hangs", null],
  ] as const) {
    it(`${habit}: misses heartbeats, turns red, and turns green again`, async () => {
      const sound = `${habit}-sound`;
      await Promise.all([start(habit, habit), start(sound, habit)]);
      assert.equal((await look(habit)).health, "green");
      go(habit);
      await turns(habit, "red");
      assert.equal((await look(habit)).state, "running");
      await turns(sound, "green");
      if (note !== null) await until("its log says so", () => note.test(log(habit, "system")[0] ?? ""));
      assert.deepEqual(logOf(cluster, "n1", sound), []);
      rmSync(join(dataDirOf(cluster, "n1", habit), "go"));
      await turns(habit, "green");
      await workerLives();
    });
  }

  it("never answers a heartbeat: turns red, though it has started", async () => {
    await start("never-beats", "never-beats");
    await turns("never-beats", "red");
  });

  it("is placed only on a node that offers its module", async () => {
    await cluster.node("n2");
    const create = { command: "stitch.create", target: "test.plain.1", spec } as const;
    /** The refusals of nodes, without `not_alive`: a node that is too busy to send heartbeats is refused for that. */
    const refused = async (more: Record<string, unknown>): Promise<string[]> => {
      const error = await cluster.run({ ...create, ...more }).then(
        () => assert.fail("it was placed"),
        (reason: RequestError) => reason,
      );
      assert.equal(error.code, "placement_failed");
      const refusals = error.facts["refusals"] as { node: string; code: string }[];
      return refusals.flatMap(({ node, code }) => (code === "not_alive" ? [] : [`${node} ${code}`]));
    };
    const isRefused = (more: Record<string, unknown>, expected: readonly string[]) =>
      until(`refused: ${expected.join()}`, async () => (await refused(more)).join() === expected.join());
    await isRefused({ node: "n2" }, ["n2 module_missing"]);
    await isRefused({ spec: { ...spec, module: "unheard-of" } }, ["n1 module_missing", "n2 module_missing"]);
    await until("n1 is alive", async () => (await cluster.master.state.node("n1")).liveness === "alive");
    const job = await cluster.run({ ...create, count: 2 });
    assert.deepEqual(
      job.stitches.map((id) => id.split(":")[0]),
      ["n1", "n1"],
    );
    assert.deepEqual((await cluster.master.state.node("n1")).modules, ["habits", "outside"]);
  });
});

describe("a worker with modules", { concurrency: 3 }, () => {
  it("that no longer offers a module says so in the log of its stitches", async () => {
    await withCluster(url, {}, async (cluster) => {
      const first = await cluster.node("n1", { STITCH_MODULES: MODULES });
      const target = "test.plain.1";
      const restart = { policy: "never" };
      await cluster.run({ command: "stitch.create", target, id: "a", spec: { ...spec, restart } });
      await first.kill("SIGTERM");
      assert.equal(journalOf(cluster, "n1", "a").at(-1)?.["hook"], "stop", "stopped in good order with its worker");
      await cluster.node("n1");
      await until("it has failed", async () => (await cluster.master.state.stitch("a")).state === "failed");
      await until("its log says why", () =>
        logOf(cluster, "n1", "a").some(({ line }) => /n1 offers no module "habits"; it offers none/.test(line)),
      );
    });
  });

  for (const fault of ["throw", "reject"]) {
    it(`ends after a fault outside of any stitch (${fault}), reports it, and leaves no process`, async () => {
      await withCluster(url, {}, async (cluster) => {
        const trigger = join(cluster.dir, "trigger");
        const worker = await cluster.node("n1", { STITCH_MODULES: MODULES, TRIGGER: trigger });
        await cluster.create("n1", "process", ["sleep", "600"]);
        await cluster.run({ command: "stitch.create", target: "test.plain.1", id: "module", spec });
        writeFileSync(trigger, fault);
        assert.notEqual(await worker.exited, 0);
        assert.match(worker.output, /a fault outside of any stitch/);
        assert.deepEqual(logOf(cluster, "n1", "module"), [], "it is not taken for a stitch's");
        // `stop()` of the cluster checks that none of its processes is left.
      });
    });
  }

  const dir = mkdtempSync(join(tmpdir(), "cs-modules-"));
  after(() => rmSync(dir, { recursive: true, force: true }));
  const REFUSED: readonly { file: string; text: string | null; why: RegExp }[] = [
    { file: "nowhere.mjs", text: null, why: /cannot be loaded: Cannot find module/ },
    { file: "broken.mjs", text: "export const start = (;", why: /cannot be loaded: Unexpected token/ },
    { file: "throws.mjs", text: "throw new Error('no database')", why: /cannot be loaded: no database/ },
    {
      file: "other.mjs",
      text: "export const begin = () => 0",
      why: /is no module of a stitch: start must be a function/,
    },
    { file: "wrong.mjs", text: "export const start = () => 0, stop = 7", why: /: stop must be a function/ },
  ];
  for (const { file, text, why } of REFUSED) {
    it(`does not start with a file that is not a module: ${file}`, async () => {
      await withCluster(url, {}, async (cluster) => {
        const bad = join(dir, file);
        if (text !== null) writeFileSync(bad, text);
        const worker = cluster.part(["node"], {
          STITCH_NODE_ID: "n1",
          STITCH_STATE_DIR: join(cluster.dir, "state"),
          STITCH_MODULES: `habits=${path("habits.mjs")},bad=${bad}`,
        });
        assert.equal(await worker.exited, 1);
        assert.match(worker.output, why);
        assert.ok(worker.output.includes(`STITCH_MODULES: bad=${bad} `), worker.output);
        assert.equal(worker.output.trim().split("\n").length, 1, "the reason, and no stack");
      });
    });
  }
});
