// The stitch SDKs: each runs as its own process, with a strict node at the other end of its pipes.
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
/** For a question that gets an answer: longer than the slowest machine needs. */
const timeoutMs = 60_000;
const hasPython = spawnSync("python3", ["-c", "pass"]).status === 0;

/** A file that does not exist until `make` is called. */
function signalFile(t: TestContext): { path: string; make: () => void } {
  const folder = mkdtempSync(join(tmpdir(), "stitch-sdk-"));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const path = join(folder, "go");
  return { path, make: () => writeFileSync(path, "") };
}

/** Sends a message whose handler runs until `file` exists. @returns its id, once the handler has begun. */
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
    test("answers heartbeats with their ids, and writes nothing else", async (t) => {
      const node = start(t);
      for (let beat = 0; beat < 3; beat++) await node.beats();
      assert.equal(node.messages.length, 3);
      assert.deepEqual([node.logs, node.lines, node.broken, node.stderr], [[], [], [], ""]);
    });

    test("takes the facts from the arguments, and leaves all other arguments to the program", async (t) => {
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

    test("without arguments takes the facts from the environment; without both the program runs, too", async (t) => {
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

    test("acknowledges a message whose handler returns no value", async (t) => {
      const node = start(t);
      const id = node.send("nothing");
      assert.deepEqual(await node.answer(id), { Command: "ack", Id: id });
    });

    test("a returned value is the reply: a string as it is, the rest as JSON; the system only gets an ack", async (t) => {
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

    test("a handler that throws, or returns what cannot be sent, fails the message and logs the reason", async (t) => {
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

    test("without a handler, fails messages at once", async (t) => {
      const node = start(t, { deaf: true });
      assert.equal((await node.ask("echo", "x")).Command, "fail");
      await until("the advice", () => /on_?message/i.test(node.stderr));
      await node.beats();
    });

    test("handles messages one at a time, in order, and answers heartbeats meanwhile", async (t) => {
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

    test("keeps a thousand waiting messages, and refuses those that come after them", async (t) => {
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

    test("does not answer a heartbeat whose hook fails, and answers the next one", async (t) => {
      const node = start(t);
      await node.ask("heart", "fails");
      const lost = node.tell("_heartbeat");
      await until("the reason", () => node.stderr.includes("no heart"));
      await node.ask("heart", "beats");
      await node.beats();
      assert.ok(!node.messages.some(({ Id }) => Id === lost));
    });

    test("sends log text line by line, cut where the node would cut it", async (t) => {
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

    test("a line that the program has not finished does not spoil the next message", async (t) => {
      const node = start(t);
      await node.ask("print", "50 % …");
      await node.ask("print", "80 % …");
      await node.beats();
      await node.ask("print", "\n");
      assert.deepEqual([node.lines, node.broken], [["50 % …", "80 % …"], []]);
      await node.beats();
    });

    test("sends messages to a stitch or to a group", async (t) => {
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

    test("gives a question its own Id, and hands its answer to the asker ahead of waiting messages", async (t) => {
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

    test("matches answers to questions in any order; a question never has the Id of another one", async (t) => {
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

    test("a question without an answer fails after its timeout; a late or repeated answer is dropped", async (t) => {
      const node = start(t);
      const asking = node.send("ask", JSON.stringify([{ to: "deaf", data: "", timeoutMs: 50 }]));
      const { Id } = await node.question("deaf");
      assert.equal((await node.answer(asking)).Command, "fail");
      await until("the reason", () => node.stderr.includes("deaf has not answered within 50 ms"));
      for (const data of ["late", "twice"]) {
        const late = node.send("about", data, "deaf", Id);
        assert.deepEqual(await node.answer(late), { Command: "ack", Id: late });
      }
      // An answer to a message that the program has sent by other means is an ordinary message.
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

    test("a handler that asks while the process is told to exit still gets its answer", async (t) => {
      const node = start(t, { exitLimitMs: timeoutMs });
      const asking = node.send("ask", JSON.stringify([{ to: "a", data: "", timeoutMs }]));
      const { Id } = await node.question("a");
      node.tell("_exit");
      node.send("", "in time", "a", Id);
      assert.match((await node.answer(asking)).Data ?? "", /in time/);
      assert.deepEqual(await node.ended, { code: 0, signal: null });
    });

    test("reads messages however their bytes arrive, also over several lines and with CRLF", async (t) => {
      const node = start(t);
      const data = "ü🧵\u2028 end \u2029\u0085\r\nend\n";
      const texts = [
        `\n\n{"Id": 1, "FromStitchInstanceId": "a", "NodeId": "n1", "ChannelName": "echo", "Data": ${JSON.stringify(data)}}\nend\n`,
        `{\r\n "Id": 3,\r\n "FromStitchInstanceId": "a",\r\n "ChannelName": "echo", "Data": "crlf"\r\n}\r\n end \r\n\r\n`,
      ];
      for (const byte of Buffer.from(texts.join(""))) {
        node.write(Uint8Array.of(byte));
        // Sends this byte on its own.
        await new Promise((resolve) => setImmediate(resolve));
      }
      assert.equal((await node.answer(1)).Data, data);
      assert.equal((await node.answer(3)).Data, "crlf");
      const large = "é".repeat(500_000);
      assert.equal(await node.reply("echo", large), large);
      assert.equal(node.stderr, "");
    });

    test("logs what it cannot read, and goes on as before", async (t) => {
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
      test(`exits with 0 after ${how}, once the running handler and the exit hooks have ended`, async (t) => {
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

    test("does not answer messages that it has not begun when it is told to exit", async (t) => {
      const node = start(t);
      const file = signalFile(t);
      await keepBusy(node, file);
      const before = node.send("echo", "not begun");
      node.tell("_exit");
      const after = node.send("echo", "too late");
      // Heartbeats are still answered, so the node sees that the stitch is on its way out.
      await node.beats();
      file.make();
      assert.deepEqual(await node.ended, { code: 0, signal: null });
      assert.ok(!node.messages.some(({ Id }) => Id === before || Id === after));
    });

    test("handles the messages that came before the end of its input", async (t) => {
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

    test("exits once when it is told to exit several times", async (t) => {
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

    test("exits in the same way whenever it is told again on its way out", async (t) => {
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

    test("exits although a hook or a handler never ends", async (t) => {
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

    test("exits when nobody reads its output any more", async (t) => {
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

  test("with a concurrency, handles that many messages at the same time", async (t) => {
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

  test("null is a value and undefined is none; an error is logged with its stack", async (t) => {
    const node = start(t);
    assert.equal(await node.reply("null"), "null");
    await node.ask("error");
    assert.equal(node.logs[0], "Error: shown with its stack");
    assert.match(node.logs[1] ?? "", /^ +at /);
  });

  test("send() resolves when the node has read the message, not before", async (t) => {
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

  test("text that one thread prints does not mix with messages that another one sends", async (t) => {
    const node = start(t);
    assert.equal((await node.ask("two threads")).Command, "ack");
    assert.deepEqual(node.broken, []);
    assert.equal(node.messages.filter(({ ToStitchInstanceId }) => ToStitchInstanceId === "sink").length, 200);
    assert.equal(node.lines.join("").length, 200 * 20_000);
  });

  test("exit hooks and finally blocks run, and sys.exit in a handler keeps its code", async (t) => {
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
