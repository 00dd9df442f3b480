// The samples that speak process-v1, each with a strict node at the other end of its pipes.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { until } from "../../support/cluster.ts";
import { samples as ofUp } from "../../../src/cli/up/samples.ts";
import { FACTS, StrictNode } from "./strict-node.ts";

const samples = join(import.meta.dirname, "../../../infra/samples");
const noPython = spawnSync("python3", ["-c", "pass"]).status === 0 ? false : "there is no python3 on the PATH";

function folder(t: TestContext): string {
  const path = mkdtempSync(join(tmpdir(), "sample-"));
  t.after(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

async function start(
  t: TestContext,
  file: string,
  { args = [], dataDir = tmpdir() }: { args?: readonly string[]; dataDir?: string } = {},
): Promise<StrictNode> {
  const program = file.endsWith(".py") ? "python3" : process.execPath;
  const facts = ["coreid=n1", "instanceid=sample", "groupname=samples.sample.1", `datadir=${dataDir}`];
  const node = new StrictNode(t, [program, join(samples, file), ...args, ...facts]);
  await node.beats();
  return node;
}

async function stop(node: StrictNode): Promise<void> {
  node.tell("_exit");
  assert.deepEqual(await node.ended, { code: 0, signal: null });
  assert.deepEqual([node.lines, node.broken, node.stderr], [[], [], ""]);
}

const sentBy = (node: StrictNode) => node.messages.filter(({ Command }) => Command === "data");

test("ann writes to her application at each heartbeat, and does not reply to stitches", async (t) => {
  const ann = await start(t, "ann.mjs");
  await ann.beats();
  assert.deepEqual(
    sentBy(ann),
    [1, 2].map((number) => ({ Command: "data", ToGroupName: "samples", Data: `letter ${number}` })),
  );
  assert.equal((await ann.ask("", "thanks")).Command, "ack");
  assert.deepEqual(ann.logs, ["n1:other answers: thanks"]);
  assert.equal((await ann.ask("", "how are you?", "api:r1")).Data, "2 letters written, 1 answers read");
  await stop(ann);
});

test("bob replies to a letter", { skip: noPython }, async (t) => {
  const bob = await start(t, "bob.py");
  assert.equal(await bob.reply("", "letter 1"), "thank you for letter 1");
  await stop(bob);
  assert.deepEqual(bob.logs, ["n1:other writes: letter 1"]);
});

test("bob, as `stitch up` starts him, writes nothing beside the library", { skip: noPython }, async (t) => {
  const command = (await ofUp()).get("penpals")?.find(({ id }) => id === "bob")?.command ?? assert.fail();
  // Here Python would write what it otherwise writes beside the library.
  const cache = folder(t);
  const bob = new StrictNode(t, [...command, ...FACTS], { PYTHONPYCACHEPREFIX: cache });
  await bob.beats();
  await stop(bob);
  assert.deepEqual(readdirSync(cache), []);
});

test("the splitter deals out the lines of its file in turn", async (t) => {
  const file = join(folder(t), "text");
  writeFileSync(file, "one\n\n three\tü \nfour\n");
  const splitter = await start(t, "splitter.mjs", { args: [file, "a", "b"] });
  await until("it has dealt out", () => splitter.logs.length > 0);
  assert.deepEqual(splitter.logs, [`dealt out the 4 lines of ${file} to a, b`]);
  const { text, ...about } = JSON.parse(await splitter.reply("")) as { text: string };
  assert.deepEqual(about, { file: "text", lines: 4 });
  const line = (to: string, number: number, words: string) => ({
    Command: "data",
    ToStitchInstanceId: to,
    DataChannel: "line",
    Data: JSON.stringify({ text, number, line: words }),
  });
  assert.deepEqual(sentBy(splitter).slice(0, 4), [
    line("a", 0, "one"),
    line("b", 1, ""),
    line("a", 2, " three\tü "),
    line("b", 3, "four"),
  ]);
  await stop(splitter);
});

test("a counter counts a line once, even if it comes twice, and keeps its counts over a restart", async (t) => {
  const dataDir = folder(t);
  const total = async (node: StrictNode, text: string) => JSON.parse(await node.reply("total", text)) as unknown;
  const count = async (node: StrictNode, text: string, number: number, line: string) => {
    const { Command } = await node.ask("line", JSON.stringify({ text, number, line }));
    assert.equal(Command, "ack");
  };
  const first = await start(t, "counter.mjs", { dataDir });
  assert.deepEqual(await total(first, "t"), { lines: 0, words: 0 });
  await count(first, "t", 0, " two\twords ");
  await count(first, "t", 0, " two\twords ");
  await count(first, "t", 10, "");
  await count(first, "other", 0, "another text");
  assert.deepEqual(await total(first, "t"), { lines: 2, words: 2 });
  first.child.kill("SIGKILL");
  await first.ended;
  const second = await start(t, "counter.mjs", { dataDir });
  await count(second, "t", 0, "two words");
  await count(second, "t", 1, "three more words");
  assert.deepEqual(await total(second, "t"), { lines: 3, words: 5 });
  await stop(second);
});

test("the collector adds up the counts for the splitter's text, and names the silent counters", async (t) => {
  const collector = await start(t, "collector.mjs", { args: ["splitter", "a", "b", "c"] });
  const round = async () => {
    const asking = collector.send("", "", "api:r1");
    const { Id } = await collector.question("splitter");
    collector.send("", '{"file": "f", "text": "t", "lines": 9}', "n1:splitter", Id);
    for (const [to, lines] of [
      ["c", 3],
      ["a", 1],
    ] as const) {
      const question = await collector.question(to);
      assert.deepEqual([question.DataChannel, question.Data], ["total", "t"]);
      collector.send("", JSON.stringify({ lines, words: 10 * lines }), to, question.Id);
    }
    return (await collector.answer(asking)).Data;
  };
  const expected = JSON.stringify({ file: "f", lines: 9, counted: 4, words: 40, silent: ["b"] });
  // The collector waits 2 s for each answer. If the machine stands still for that long, another counter is silent, too.
  await until("b alone is silent", async () => (await round()) === expected, 60_000);
  assert.ok(collector.logs.includes("b has not answered within 2000 ms"));
  collector.tell("_exit");
  assert.deepEqual(await collector.ended, { code: 0, signal: null });
});
