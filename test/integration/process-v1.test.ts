// The protocol between a node and a stitch process (process-v1.md), with real processes.
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { REDISES, TestCluster, until } from "../support/cluster.ts";
import { dataDirOf, journalOf, logOf } from "../support/stitch-folder.ts";

const program = (name: string): string => join(import.meta.dirname, "../support/stitches", name);
const STRICT = [process.execPath, program("strict.mjs")];
const habit = (...custom: string[]): string[] => [process.execPath, program("habits.mjs"), "--", ...custom];
/** A shell stitch that answers the first heartbeat, and then does something else. */
const afterFirstAnswer = (then: string): string[] => [
  "sh",
  "-c",
  `read -r object; read -r end; id=\${object#*:}; printf '{"Command":"sync","Id":%s}\\nend\\n' "\${id%%,*}"; ${then}`,
];
const envOf = (facts?: Record<string, unknown>) => (facts?.["env"] ?? {}) as Record<string, string>;
/** For stitches that exit when they are told to: even on a busy machine they get no signal. */
const PATIENT = { stopGraceMs: 60_000 };
const IDLE = "while :; do sleep 1; done";

describe("a stitch that speaks ProcessV1", { concurrency: 3 }, () => {
  const cluster = new TestCluster(REDISES[0]?.url ?? "");
  let nodePid = 0;
  before(async () => {
    await cluster.start();
    nodePid = (await cluster.node("n1", { A_SECRET_OF_THE_NODE: "x" })).pid;
  });
  after(() => cluster.stop());

  const start = (id: string, command: readonly string[], spec: Record<string, unknown> = {}) =>
    cluster.create("n1", id, command, { protocol: "process-v1", heartbeatMs: 100, stopGraceMs: 1000, ...spec });
  const stop = async (id: string) => {
    const job = await cluster.run({ command: "stitch.stop", target: id });
    assert.equal(job.status, "succeeded", JSON.stringify(job));
    return (await cluster.master.state.stitch(id)).lastExit;
  };
  const journal = (id: string) => journalOf(cluster, "n1", id);
  const log = (id: string, source: string) =>
    logOf(cluster, "n1", id).flatMap((entry) => (entry.source === source ? [entry.line] : []));
  const heartbeats = (id: string) => journal(id).filter((message) => message["ChannelName"] === "_heartbeat");
  const errors = (id: string) =>
    journal(id).flatMap((message) => (message["ChannelName"] === "_error" ? [message["Data"]] : []));
  const hears = (id: string, count: number) =>
    until(`${id} has had ${count} heartbeats`, () => heartbeats(id).length >= count);
  const turns = (id: string, health: string) =>
    until(`${id} turns ${health}`, async () => (await cluster.master.state.stitch(id)).health === health);

  it("with the strictest parser gets every message in a form that it reads, is green, and exits when told to", async () => {
    await start("strict", STRICT, PATIENT);
    await hears("strict", 5);
    await turns("strict", "green");
    const lastExit = await stop("strict");
    assert.deepEqual([lastExit?.code, lastExit?.signal], [0, null]);
    const got = journal("strict");
    const exit = got.at(-1);
    assert.equal(exit?.["ChannelName"], "_exit");
    for (const [index, message] of got.entries())
      assert.deepEqual(message, {
        // Ids rise in steps of two, for every kind of message.
        Id: 2 * (index + 1),
        FromStitchInstanceId: "",
        NodeId: "n1",
        ChannelName: message === exit ? "_exit" : "_heartbeat",
        Data: "",
      });
    assert.deepEqual(logOf(cluster, "n1", "strict"), [], "an empty line after `end` is nothing");
  });

  for (const name of ["several lines, Windows ends", "lower case"]) {
    it(`is understood if its answers have ${name}`, async () => {
      const id = name.replace(/\W+/g, "-").toLowerCase();
      await start(id, habit(name), PATIENT);
      await hears(id, 4);
      await turns(id, "green");
      const lastExit = await stop(id);
      assert.equal(lastExit?.code, 0);
      assert.deepEqual(logOf(cluster, "n1", id), []);
    });
  }

  it("gets its node, id, group and folder by its arguments and its environment", async () => {
    const command = [process.execPath, program("facts.mjs"), "its", "own=1", "--", "custom", "--", "a b"];
    const job = await cluster.run({
      command: "stitch.create",
      target: "Shop.order_s.1-2",
      node: "n1",
      spec: { adaptor: "process", command, env: { COLOUR: "green" }, stopGraceMs: 100 },
    });
    assert.equal(job.status, "succeeded", JSON.stringify(job));
    const id = job.stitches[0]?.split(":")[1] ?? "";
    const dataDir = dataDirOf(cluster, "n1", id);
    const [told] = journal(id);
    assert.deepEqual(told?.["args"], [
      "its",
      "own=1",
      "coreid=n1",
      `corepid=${nodePid}`,
      `instanceid=${id}`,
      "application=Shop",
      "component=order_s",
      "version=1-2",
      "groupname=Shop.order_s.1-2",
      `datadir=${dataDir}`,
      "channel=Stdio",
      "serializer=Json",
      "--",
      "custom",
      "--",
      "a b",
    ]);
    assert.deepEqual([told?.["ppid"], told?.["cwd"]], [nodePid, dataDir]);
    const env = envOf(told);
    const { STITCH_NODE_ID, STITCH_ID, STITCH_GROUP, STITCH_DATA_DIR, COLOUR } = env;
    assert.deepEqual(
      [STITCH_NODE_ID, STITCH_ID, STITCH_GROUP, STITCH_DATA_DIR, COLOUR],
      ["n1", id, "Shop.order_s.1-2", dataDir, "green"],
    );
    assert.deepEqual([env["A_SECRET_OF_THE_NODE"], env["REDIS_URL"]], [undefined, undefined]);
  });

  it("runs its command as given if the protocol is none, with the environment only", async () => {
    const command = [process.execPath, program("facts.mjs"), "a", "--", "b"];
    await cluster.create("n1", "bare", command, { protocol: "none", stopGraceMs: 100 });
    const [told] = await until("it has told", () => journal("bare").length > 0 && journal("bare"));
    assert.deepEqual(told?.["args"], ["a", "--", "b"]);
    assert.equal(envOf(told)["STITCH_ID"], "bare");
    await until("what it prints is its log", () => log("bare", "stdout").length >= 2);
    assert.deepEqual(log("bare", "stdout"), ['{"Command":"sync","Id":2}', "end"]);
  });

  it("runs once it gives the right answer, however late; an answer to an unknown Id is ignored", async () => {
    const spec = { adaptor: "process", command: habit("wrong ids"), heartbeatMs: 100, stopGraceMs: 1000 };
    await cluster.run({ command: "stitch.create", target: "a.b.1", node: "n1", id: "wrong", spec, start: false });
    const started = await cluster.run({ command: "stitch.start", target: "wrong", timeoutMs: 1500 });
    assert.deepEqual([started.status, started.error?.code], ["failed", "start_timeout"]);
    await hears("wrong", 5);
    const before = await cluster.master.state.stitch("wrong");
    assert.deepEqual([before.desired, before.state, before.health], ["running", "starting", "missing"]);
    writeFileSync(join(dataDirOf(cluster, "n1", "wrong"), "be-right"), "");
    const after = await until("it runs", async () => {
      const stitch = await cluster.master.state.stitch("wrong");
      return stitch.state === "running" ? stitch : null;
    });
    assert.deepEqual([after.pid, after.restarts, after.health], [before.pid, 0, "green"]);
  });

  it("has in its log what it prints beside its messages, with the source", async () => {
    await start("talks", habit("talks"));
    await hears("talks", 2);
    await until("all of it is there", () => log("talks", "stdout").length >= 2 && log("talks", "stderr").length >= 3);
    assert.deepEqual(log("talks", "stdout"), ["before", "after"]);
    assert.deepEqual(log("talks", "log"), ["one", "two", "three"], "a text of several lines is several");
    assert.deepEqual(log("talks", "stderr"), ["an error", "{", "end"]);
    assert.deepEqual(log("talks", "system"), []);
  });

  it("loses only the invalid characters if it writes invalid UTF-8", async () => {
    await start("no-utf8", habit("is no UTF-8"));
    await hears("no-utf8", 4);
    await turns("no-utf8", "green");
    await until("its log has both", () => ["stdout", "log"].every((source) => log("no-utf8", source).length >= 1));
    assert.deepEqual(log("no-utf8", "stdout"), ["outside \uFFFD\uFFFD"]);
    assert.deepEqual(log("no-utf8", "log"), ["inside \uFFFDt\uFFFD"]);
  });

  const NOT_UNDERSTOOD: readonly { said: string[]; why: RegExp }[] = [
    { said: ["{not json", "end"], why: /^what stands before the line "end" is not a JSON object/ },
    { said: ['{"Command":"dance","Id":1}', "end"], why: /^Command: .*sync, ack, fail, data or logs.*"dance"/ },
    { said: ['{"Command":"sync"}', "end"], why: /^Id is missing/ },
    { said: ['{"Command":"sync","Id":"1e3"}', "end"], why: /^Id: .*"1e3"/ },
    { said: ['{"Command":"logs","Logs":7}', "end"], why: /^Logs: .*7/ },
  ];
  for (const [index, { said, why }] of NOT_UNDERSTOOD.entries()) {
    it(`is told why it was not understood: ${said[0]}`, async () => {
      const id = `unclear-${index}`;
      await start(id, habit("says", ...said, ""));
      const [told] = await until("it is told", () => (errors(id).length > 0 ? errors(id) : null));
      assert.match(String(told), why);
      const count = heartbeats(id).length;
      await hears(id, count + 3);
      // The conversation goes on.
      await turns(id, "green");
      await until("its log has both", () => ["stdout", "system"].every((source) => log(id, source).length >= 1));
      assert.deepEqual(log(id, "stdout"), said.slice(0, -1), "what it said is in the log");
      assert.deepEqual(log(id, "system"), [`what it wrote could not be understood: ${String(told)}`]);
    });
  }

  it("gets fewer errors than it writes messages that are not understood", async () => {
    await start("unclear", habit("is never understood"));
    await until("all of it is in the log", () => log("unclear", "system").length === 50);
    await hears("unclear", 5);
    assert.ok(errors("unclear").length >= 1);
    assert.ok(errors("unclear").length <= 25, `${errors("unclear").length} errors`);
  });

  it("has half a message at its end in the log, with the reason; its exit is handled as usual", async () => {
    const command = afterFirstAnswer(`printf '{"Command":"logs",\\n"Logs":["lost"]'; exit 3`);
    const job = await cluster.run({
      command: "stitch.create",
      target: "a.b.1",
      node: "n1",
      id: "half",
      spec: { adaptor: "process", command, restart: { policy: "never" } },
    });
    assert.equal(job.status, "succeeded", JSON.stringify(job));
    const half = await until("it has failed", async () => {
      const stitch = await cluster.master.state.stitch("half");
      return stitch.state === "failed" ? stitch : null;
    });
    assert.equal(half.lastExit?.code, 3);
    await until("its end is in the log", () => log("half", "system").length >= 2);
    assert.deepEqual(log("half", "stdout"), ['{"Command":"logs",', '"Logs":["lost"]']);
    const notes = log("half", "system");
    assert.equal(notes.length, 2, notes.join("\n"));
    assert.match(notes[0] ?? "", /the output ended within a message/);
    assert.match(notes[1] ?? "", /^failed: it exited with code 3/);
  });

  const CLOSED = [
    { what: "input", id: "no-input", act: `exec 0<&-; ${IDLE}`, why: /^it has closed its input/ },
    { what: "output", id: "no-output", act: `exec 1>&-; ${IDLE}`, why: /^it has closed its output/ },
  ];
  for (const { what, id, act, why } of CLOSED) {
    it(`closes its ${what}: runs on, turns red, and the log says why`, async () => {
      await start(id, afterFirstAnswer(act));
      await turns(id, "red");
      assert.equal((await cluster.master.state.stitch(id)).state, "running");
      await until("the log says why", () => log(id, "system").length > 0);
      const lastExit = await stop(id);
      assert.equal(lastExit?.signal, "SIGTERM");
      const [note = "", ...others] = log(id, "system");
      assert.match(note, why);
      assert.deepEqual(others, [], "once");
    });
  }

  it("never reads its input: turns red, and can still be stopped", async () => {
    await start("deaf", afterFirstAnswer(IDLE));
    await turns("deaf", "red");
    const lastExit = await stop("deaf");
    assert.equal(lastExit?.signal, "SIGTERM");
  });
});
