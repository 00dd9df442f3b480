// The stitch SDKs, each as a process of its own with a strict node at the other end of its pipes.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, type TestContext, test } from "node:test";
import { pause } from "../../../src/bounded-wait.ts";
import { until } from "../../support/cluster.ts";
import { FACTS, StrictNode } from "./strict-node.ts";

type Probe = { readonly exitLimitMs?: number; readonly deaf?: boolean; readonly concurrency?: number };

const SDKS = [
  { language: "JavaScript", command: [process.execPath, join(import.meta.dirname, "probe-stitch.ts")] },
  { language: "Python", command: ["python3", join(import.meta.dirname, "probe_stitch.py")] },
];
/** Of a question that is answered: longer than the slowest machine takes for it. */
const timeoutMs = 60_000;
const hasPython = spawnSync("python3", ["-c", "pass"]).status === 0;

/** A file that is not there until `make` is called. */
function signalFile(t: TestContext): { path: string; make: () => void } {
  const folder = mkdtempSync(join(tmpdir(), "stitch-sdk-"));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const path = join(folder, "go");
  return { path, make: () => writeFileSync(path, "") };
}

/** Sends a message whose handler works until `file` is there. @returns its id, once the handler has begun. */
async function keepBusy(node: StrictNode, file: { path: string }): Promise<number> {
  const begun = () => node.logs.filter((line) => line === "waiting").length;
  const before = begun();
  const id = node.send("wait", file.path);
  await until("the handler has begun", () => begun() > before);
  return id;
}

for (const { language, command } of SDKS) {
  const skip = language === "Python" && !hasPython ? "there is no python3 on the PATH" : false;
  const start = (t: TestContext, probe: Probe = {}, args: readonly string[] = FACTS): StrictNode =>
    new StrictNode(t, [...command, ...args], { PROBE: JSON.stringify(probe) });

  describe(`the ${language} SDK`, { skip }, () => {
    test("heartbeats are answered with their ids, and nothing else is written", async (t) => {
      const node = start(t);
      for (let beat = 0; beat < 3; beat++) await node.beats();
      assert.equal(node.messages.length, 3);
      assert.deepEqual([node.logs, node.lines, node.broken, node.stderr], [[], [], [], ""]);
    });

    test("the facts come from the arguments, and what is not the node's is the program's own", async (t) => {
      const node = start(t, {}, ["first", "a=b", ...FACTS, "later=fact", "--", "version=own", "--", "last"]);
      assert.deepEqual(JSON.parse(await node.reply("facts")), {
        id: "probe-1",
        node: "n1",
        group: "test.probe.1",
        application: "test",
        component: "probe",
        version: "1",
        dataDir: "/data/probe=1",
        args: ["first", "a=b", "version=own", "--", "last"],
      });
    });

    test("without arguments the facts come from the environment, and without both the program runs all the same", async (t) => {
      const env = { STITCH_NODE_ID: "n2", STITCH_ID: "p", STITCH_GROUP: "test.probe.2", STITCH_DATA_DIR: "/data/p" };
      const told = new StrictNode(t, [...command, "x=1"], env);
      const parts = { application: "test", component: "probe", version: "2" };
      assert.deepEqual(JSON.parse(await told.reply("facts")), {
        id: "p",
        node: "n2",
        group: "test.probe.2",
        ...parts,
        dataDir: "/data/p",
        args: ["x=1"],
      });
      const alone = new StrictNode(t, command);
      const nothing = { id: "", node: "", group: "", application: "", component: "", version: "" };
      assert.deepEqual(JSON.parse(await alone.reply("facts")), { ...nothing, dataDir: process.cwd(), args: [] });
    });

    test("a message handled without a value is acknowledged", async (t) => {
      const node = start(t);
      const id = node.send("nothing");
      assert.deepEqual(await node.answer(id), { Command: "ack", Id: id });
    });

    test("a value is the reply: a string as it is, anything else as JSON; to the system it is an acknowledgement", async (t) => {
      const node = start(t);
      const id = node.send("echo", 'a "quoted"\nline, ü, 🧵', "api:r1");
      const Data = 'a "quoted"\nline, ü, 🧵';
      assert.deepEqual(await node.answer(id), { Command: "data", Id: id, ToStitchInstanceId: "api:r1", Data });
      assert.equal(await node.reply("echo", ""), "");
      assert.deepEqual(JSON.parse(await node.reply("json", '{"a":[1,null,"é"]}')), { a: [1, null, "é"] });
      assert.equal(await node.reply("json", "0"), "0");
      assert.equal(await node.reply("json", "false"), "false");
      const about = node.send("about", "", "n2:orders-7");
      assert.equal((await node.answer(about)).Data, `${about} n2:orders-7 about`);
      assert.equal((await node.ask("echo", "x", "")).Command, "ack");
    });

    test("a handler that throws, or returns what cannot be sent, fails the message and says why in the log", async (t) => {
      const node = start(t);
      const id = node.send("throw", "out of paper");
      assert.deepEqual(await node.answer(id), { Command: "fail", Id: id });
      await until("the reason", () =>
        new RegExp(`^crossstitch: message ${id} failed: [^]*out of paper`).test(node.stderr),
      );
      assert.equal((await node.ask("unsendable")).Command, "fail");
      assert.equal((await node.ask("json", "{")).Command, "fail");
      assert.equal((await node.ask("large", String(1024 * 1024))).Command, "fail");
      assert.equal((await node.reply("large", String(1024 * 1024 - 200))).length, 1024 * 1024 - 200);
      await node.beats();
    });

    test("without a handler messages fail at once", async (t) => {
      const node = start(t, { deaf: true });
      assert.equal((await node.ask("echo", "x")).Command, "fail");
      await until("the advice", () => /on_?message/i.test(node.stderr));
      await node.beats();
    });

    test("messages are handled one at a time, in order, and heartbeats are answered meanwhile", async (t) => {
      const node = start(t);
      const file = signalFile(t);
      const long = await keepBusy(node, file);
      const short = node.send("echo", "second");
      await node.beats();
      assert.deepEqual(
        node.messages.filter(({ Command }) => Command !== "sync"),
        [],
      );
      file.make();
      await node.answer(short);
      assert.deepEqual(
        node.messages.filter(({ Command }) => Command !== "sync").map(({ Id }) => Id),
        [long, short],
      );
    });

    test("more than a thousand waiting messages are refused, and those before them are kept", async (t) => {
      const node = start(t);
      const file = signalFile(t);
      await keepBusy(node, file);
      const ids = Array.from({ length: 1002 }, () => node.send("nothing"));
      await node.answer(ids.at(-1) ?? 0);
      const failed = node.messages.filter(({ Command }) => Command === "fail").map(({ Id }) => Id);
      assert.deepEqual(failed, ids.slice(1000));
      file.make();
      assert.equal((await node.answer(ids[999] ?? 0)).Command, "ack");
    });

    test("a heartbeat whose hook fails is not answered, and the next one is", async (t) => {
      const node = start(t);
      await node.ask("heart", "fails");
      const lost = node.tell("_heartbeat");
      await until("the reason", () => node.stderr.includes("no heart"));
      await node.ask("heart", "beats");
      await node.beats();
      assert.ok(!node.messages.some(({ Id }) => Id === lost));
    });

    test("what is logged comes line by line, cut where the node would cut it", async (t) => {
      const node = start(t);
      await node.ask("log", JSON.stringify(["one", "two\nthree\r\nfour", 5, "\u0001".repeat(70_000), "after", ""]));
      const [one, two, three, four, five, long, ...rest] = node.logs;
      assert.deepEqual([one, two, three, four, five, rest], ["one", "two", "three", "four", "5", ["after", ""]]);
      assert.equal(long, "\u0001".repeat(64 * 1024));
      await node.ask("log", JSON.stringify(Array(100).fill("\u0001".repeat(10_000))));
      assert.equal(node.logs.length, 8 + 100);
      assert.deepEqual([node.lines, node.broken], [[], []]);
    });

    test("what the program prints comes at once, beside the messages", async (t) => {
      const node = start(t);
      await node.ask("print line", "plain, ü");
      await until("the line", () => node.lines.includes("plain, ü"));
      assert.deepEqual(node.broken, []);
    });

    test("a line that the program has left open does not spoil the next message", async (t) => {
      const node = start(t);
      await node.ask("print", "50 % …");
      await node.ask("print", "80 % …");
      await node.beats();
      await node.ask("print", "\n");
      assert.deepEqual([node.lines, node.broken], [["50 % …", "80 % …"], []]);
      await node.beats();
    });

    test("messages are sent to a stitch or to a group", async (t) => {
      const node = start(t);
      const sent = async (message: object) => {
        const before = node.messages.length;
        const { Command } = await node.ask("send", JSON.stringify(message));
        return { Command, sent: node.messages.slice(before).filter((each) => each.Command === "data") };
      };
      const Command = "data";
      assert.deepEqual(await sent({ to: "n2:orders-1", data: "ü" }), {
        Command: "ack",
        sent: [{ Command, ToStitchInstanceId: "n2:orders-1", Data: "ü" }],
      });
      assert.deepEqual(
        await sent({ group: "shop.orders", channel: "news", data: { a: 1 } }).then(({ sent }) =>
          sent.map((each) => ({ ...each, Data: JSON.parse(each.Data ?? "") })),
        ),
        [{ Command, ToGroupName: "shop.orders", DataChannel: "news", Data: { a: 1 } }],
      );
      assert.deepEqual(await sent({ data: "x" }), { Command: "fail", sent: [] });
      assert.deepEqual(await sent({ to: "a", group: "b.c.d", data: "x" }), { Command: "fail", sent: [] });
      assert.deepEqual(await sent({ to: "a", data: "x".repeat(1024 * 1024) }), { Command: "fail", sent: [] });
      await node.beats();
    });

    test("a question has an Id of its own, and its answer comes to who asked, past what waits", async (t) => {
      const node = start(t);
      const asking = node.send(
        "ask",
        JSON.stringify([{ to: "n2:oracle", channel: "news", data: { a: 1 }, timeoutMs }]),
      );
      const waiting = node.send("echo", "later");
      const { Id, Data, ...question } = await node.question("n2:oracle");
      assert.deepEqual(question, { Command: "data", ToStitchInstanceId: "n2:oracle", DataChannel: "news" });
      assert.deepEqual(JSON.parse(Data ?? ""), { a: 1 });
      assert.ok(Number.isSafeInteger(Id) && Id >= 2 ** 52, String(Id));
      const answer = node.send("", '"é"', "n2:oracle", Id);
      assert.deepEqual(await node.answer(answer), { Command: "ack", Id: answer });
      assert.deepEqual(JSON.parse((await node.answer(asking)).Data ?? ""), [
        { from: "n2:oracle", channel: "", data: '"é"' },
      ]);
      assert.equal((await node.answer(waiting)).Data, "later");
      assert.deepEqual([node.broken, node.stderr], [[], ""]);
    });

    test("answers find their questions in any order, and a question never has the Id of another one", async (t) => {
      const node = start(t);
      const asking = node.send("ask", JSON.stringify(["a", "b", "c"].map((to) => ({ to, data: "", timeoutMs }))));
      const ids = new Map<string, number>();
      for (const to of ["c", "a", "b"]) {
        const { Id } = await node.question(to);
        ids.set(to, Id);
        node.send("", `from ${to}`, to, Id);
      }
      const answers = JSON.parse((await node.answer(asking)).Data ?? "") as { data: string }[];
      assert.deepEqual(
        answers.map(({ data }) => data),
        ["from a", "from b", "from c"],
      );
      assert.equal(new Set(ids.values()).size, 3);
      const other = start(t);
      other.send("ask", JSON.stringify([{ to: "a", data: "", timeoutMs }]));
      const { Id } = await other.question("a");
      assert.ok(![...ids.values()].includes(Id), "a new life asks under the Ids of another");
    });

    test("a question without an answer fails in time; an answer that is late or comes twice is dropped", async (t) => {
      const node = start(t);
      const asking = node.send("ask", JSON.stringify([{ to: "deaf", data: "", timeoutMs: 50 }]));
      const { Id } = await node.question("deaf");
      assert.equal((await node.answer(asking)).Command, "fail");
      await until("the reason", () => node.stderr.includes("deaf has not answered within 50 ms"));
      for (const data of ["late", "twice"]) {
        const late = node.send("about", data, "deaf", Id);
        assert.deepEqual(await node.answer(late), { Command: "ack", Id: late });
      }
      // An answer to something that the program has sent by other means is a message like any other.
      const foreign = node.send("about", "", "deaf", 7);
      assert.equal((await node.answer(foreign)).Data, `${foreign} deaf about`);
    });

    test("a question that cannot be sent fails at once", async (t) => {
      const node = start(t);
      for (const question of [
        { to: "a", data: "x".repeat(1024 * 1024 - 10) },
        { to: null, data: "" },
      ]) {
        assert.equal((await node.ask("ask", JSON.stringify([question]))).Command, "fail");
        assert.equal(node.messages.filter(({ Command }) => Command === "data").length, 0);
      }
    });

    test("a handler that is asking when the end is asked for still gets its answer", async (t) => {
      const node = start(t, { exitLimitMs: timeoutMs });
      const asking = node.send("ask", JSON.stringify([{ to: "a", data: "", timeoutMs }]));
      const { Id } = await node.question("a");
      node.tell("_exit");
      node.send("", "in time", "a", Id);
      assert.match((await node.answer(asking)).Data ?? "", /in time/);
      assert.deepEqual(await node.ended, { code: 0, signal: null });
    });

    test("messages are understood however their bytes come, over several lines and with CRLF too", async (t) => {
      const node = start(t);
      const data = "ü🧵\u2028 end \u2029\u0085\r\nend\n";
      const texts = [
        `\n\n{"Id": 1, "FromStitchInstanceId": "a", "NodeId": "n1", "ChannelName": "echo", "Data": ${JSON.stringify(data)}}\nend\n`,
        `{\r\n "Id": 3,\r\n "FromStitchInstanceId": "a",\r\n "ChannelName": "echo", "Data": "crlf"\r\n}\r\n end \r\n\r\n`,
      ];
      for (const byte of Buffer.from(texts.join(""))) {
        node.write(Uint8Array.of(byte));
        // Lets the byte leave by itself.
        await new Promise((resolve) => setImmediate(resolve));
      }
      assert.equal((await node.answer(1)).Data, data);
      assert.equal((await node.answer(3)).Data, "crlf");
      const large = "é".repeat(500_000);
      assert.equal(await node.reply("echo", large), large);
      assert.equal(node.stderr, "");
    });

    test("what cannot be understood is told in the log, and changes nothing", async (t) => {
      const node = start(t);
      const bad = [
        "no JSON",
        "{",
        "[]",
        "null",
        "7",
        '"text"',
        "{}",
        '{"Id":"x","ChannelName":"echo"}',
        '{"Id":true,"ChannelName":"echo"}',
        '{"Id":1.5,"ChannelName":"echo"}',
        `${"[".repeat(100_000)}`,
        "",
      ];
      for (const text of bad) node.write(`${text}\nend\n`);
      node.write(Buffer.from([0x7b, 0xff, 0xfe, 0x0a, 0x65, 0x6e, 0x64, 0x0a]));
      await node.beats();
      await until("a complaint for each", () => node.stderr.split("could not be read").length - 1 === bad.length + 1);
      node.tell("_error", "it was too long");
      node.tell("_later", "from a newer node");
      node.write('{"Id":1,"FromStitchInstanceId":null,"ChannelName":"echo","Data":null}\nend\n');
      assert.equal((await node.answer(1)).Command, "ack");
      await until("the node's complaint", () => node.stderr.includes("it was too long"));
      assert.doesNotMatch(node.stderr, /newer node/);
    });

    for (const [how, end] of [
      ["_exit", (node: StrictNode) => void node.tell("_exit")],
      ["SIGTERM", (node: StrictNode) => void node.child.kill("SIGTERM")],
      ["the end of its input", (node: StrictNode) => void node.child.stdin.end()],
    ] as const) {
      test(`${how} ends it with 0, after the running handler and the exit hooks`, async (t) => {
        const node = start(t);
        const file = signalFile(t);
        await node.ask("heart", "talks");
        const running = await keepBusy(node, file);
        end(node);
        file.make();
        assert.deepEqual(await node.ended, { code: 0, signal: null });
        const inOrder = node.written.filter(({ Id, Logs }) => Id === running || Logs?.[0] === "goodbye");
        assert.deepEqual(
          inOrder.map(({ Command }) => Command),
          ["ack", "logs"],
        );
        assert.ok(node.logs.includes("last words"), "not all that was logged has left the process");
        assert.match(node.stderr, /a hook that fails/);
        assert.doesNotMatch(node.stderr, /had not finished/);
        assert.deepEqual(node.broken, []);
      });
    }

    test("what it has not begun when it is asked to end is left unanswered", async (t) => {
      const node = start(t);
      const file = signalFile(t);
      await keepBusy(node, file);
      const before = node.send("echo", "not begun");
      node.tell("_exit");
      const after = node.send("echo", "too late");
      // Still answered: the node sees that it is on its way.
      await node.beats();
      file.make();
      assert.deepEqual(await node.ended, { code: 0, signal: null });
      assert.ok(!node.messages.some(({ Id }) => Id === before || Id === after));
    });

    test("what has come before the end of its input is still handled", async (t) => {
      const node = start(t);
      const [first, second] = [signalFile(t), signalFile(t)];
      const running = await keepBusy(node, first);
      const waiting = node.send("wait", second.path);
      const last = node.send("echo", "last");
      node.child.stdin.end();
      first.make();
      await until("the next has begun", () => node.logs.filter((line) => line === "waiting").length === 2);
      second.make();
      assert.deepEqual(await node.ended, { code: 0, signal: null });
      assert.deepEqual(
        node.messages.map(({ Id }) => Id),
        [running, waiting, last],
      );
    });

    test("asked twice to end, it ends once", async (t) => {
      const node = start(t);
      await node.beats();
      node.tell("_exit");
      node.tell("_exit");
      node.child.kill("SIGTERM");
      node.child.stdin.end();
      assert.deepEqual(await node.ended, { code: 0, signal: null });
      assert.deepEqual(
        node.logs.filter((line) => line === "goodbye"),
        ["goodbye"],
      );
    });

    test("whenever it is asked again on its way out, it ends as if it had been asked once", async (t) => {
      const endOf = async (afterMs: number) => {
        const node = start(t);
        await node.beats();
        node.tell("_exit");
        node.child.stdin.end();
        await pause(afterMs);
        node.child.kill("SIGTERM");
        return node.ended;
      };
      for (const ends of [0, 1, 2, 3].map((quarter) => [0, 2, 4, 6].map((ms) => 2 * ms + quarter)))
        for (const end of await Promise.all(ends.map(endOf))) assert.deepEqual(end, { code: 0, signal: null });
    });

    test("a hook or a handler that never ends does not keep it from ending", async (t) => {
      const lingering = start(t, { exitLimitMs: 200 });
      await lingering.ask("heart", "lingers");
      lingering.tell("_exit");
      const stuck = start(t, { exitLimitMs: 200 });
      await keepBusy(stuck, signalFile(t));
      stuck.tell("_exit");
      for (const node of [lingering, stuck]) {
        assert.deepEqual(await node.ended, { code: 0, signal: null });
        assert.match(node.stderr, /ended after 200 ms, although it had not finished/);
      }
    });

    test("it ends when nobody reads its output any more", async (t) => {
      const node = start(t);
      await node.beats();
      node.child.stdout.destroy();
      node.tell("_heartbeat");
      assert.deepEqual(await node.ended, { code: 0, signal: null });
      assert.doesNotMatch(node.stderr, /EPIPE|BrokenPipe|had not finished/);
    });
  });
}

describe("the JavaScript SDK alone", () => {
  const [sdk] = SDKS;
  const start = (t: TestContext, probe: Probe = {}): StrictNode =>
    new StrictNode(t, [...(sdk?.command ?? []), ...FACTS], { PROBE: JSON.stringify(probe) });

  test("with a concurrency, that many messages are handled at the same time", async (t) => {
    const node = start(t, { concurrency: 2 });
    const file = signalFile(t);
    await keepBusy(node, file);
    assert.equal(await node.reply("echo", "beside it"), "beside it");
    await keepBusy(node, file);
    const third = node.send("echo", "third");
    await node.beats();
    assert.ok(!node.messages.some(({ Id }) => Id === third));
    file.make();
    await node.answer(third);
  });

  test("null is a value, undefined is none; an error is logged with its stack", async (t) => {
    const node = start(t);
    assert.equal(await node.reply("null"), "null");
    await node.ask("error");
    assert.equal(node.logs[0], "Error: shown with its stack");
    assert.match(node.logs[1] ?? "", /^ +at /);
  });

  test("send() resolves when the node has read, not before", async (t) => {
    const node = start(t);
    await node.beats();
    node.child.stdout.pause();
    // Far more than a pipe and this end's buffer hold.
    node.send("flood", "500");
    node.send("taken");
    const before = await until("a word on stderr", () => /taken (\d+);/.exec(node.stderr)?.[1]);
    assert.ok(Number(before) < 500, before);
    node.child.stdout.resume();
    await until(
      "all of it",
      () => node.messages.filter(({ ToStitchInstanceId }) => ToStitchInstanceId === "sink").length === 500,
    );
    node.send("taken");
    await until("another word", () => node.stderr.includes("taken 500;"));
    assert.deepEqual(node.broken, []);
  });
});

describe("the Python SDK alone", { skip: hasPython ? false : "there is no python3 on the PATH" }, () => {
  const [, sdk] = SDKS;
  const start = (t: TestContext): StrictNode => new StrictNode(t, [...(sdk?.command ?? []), ...FACTS]);

  test("what one thread prints does not get into what another one sends", async (t) => {
    const node = start(t);
    assert.equal((await node.ask("two threads")).Command, "ack");
    assert.deepEqual(node.broken, []);
    assert.equal(node.messages.filter(({ ToStitchInstanceId }) => ToStitchInstanceId === "sink").length, 200);
    assert.equal(node.lines.join("").length, 200 * 20_000);
  });

  test("finally and atexit do their work, and sys.exit in a handler keeps its code", async (t) => {
    const asked = start(t);
    await asked.beats();
    asked.tell("_exit");
    assert.deepEqual(await asked.ended, { code: 0, signal: null });
    assert.deepEqual(asked.logs, ["goodbye", "finally"]);
    const left = start(t);
    left.send("exit code", "3");
    assert.deepEqual(await left.ended, { code: 3, signal: null });
  });
});
