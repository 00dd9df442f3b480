// docs/first-stitch.md: the test saves and types what the guide says, with a strict node in place of the cluster.
// The program of docs/process-v1.md runs with that node, too.
import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { FACTS, StrictNode } from "./client/strict-node.ts";

const root = join(import.meta.dirname, "../..");
const guide = readFileSync(join(root, "docs/first-stitch.md"), "utf8");
const blocks = [...guide.matchAll(/^```(\w+)\n([^]*?)^```$/gm)].map(([, language = "", text = ""]) => ({
  language,
  text,
}));
const files = [...guide.matchAll(/[Ss]ave as `([^`]+)`[^\n]*\n\n```\w+\n([^]*?)^```$/gm)];

const LANGUAGES = [
  { file: "hello.mjs", name: "JavaScript", program: ["node", "-e", ""] },
  { file: "hello.py", name: "Python", program: ["python3", "-c", "pass"] },
  { file: "hello.pl", name: "Perl", program: ["perl", "-MJSON::PP", "-e", "1"] },
];

describe("the guide to the first stitch", () => {
  const home = mkdtempSync(join(tmpdir(), "first-stitch-"));
  const folder = join(home, "hello");
  const env = { PATH: process.env["PATH"], HOME: home };
  after(() => rmSync(home, { recursive: true, force: true }));

  before(() => {
    const [preparation] = blocks;
    assert.equal(preparation?.language, "sh");
    const where = execFileSync("/bin/sh", ["-e", "-c", `${preparation.text}pwd`], { cwd: root, env, encoding: "utf8" });
    assert.equal(where.trim(), folder);
    for (const [, name = "", text = ""] of files) writeFileSync(join(folder, name), text);
  });

  test("has a program in each language", () => {
    assert.deepEqual(
      files.map(([, name]) => name),
      LANGUAGES.map(({ file }) => file),
    );
  });

  test("the JavaScript program answers what the guide shows", () => {
    const at = blocks.findIndex(({ text }) => text.startsWith("node hello.mjs <<"));
    const shown = execFileSync("/bin/sh", ["-e", "-c", blocks[at]?.text ?? ""], { cwd: folder, env, encoding: "utf8" });
    assert.equal(shown.trim(), blocks[at + 1]?.text.trim());
  });

  for (const { file, name, program } of LANGUAGES) {
    const [interpreter = "", ...check] = program;
    const skip = spawnSync(interpreter, check).status === 0 ? false : `${program.join(" ")} does not work here`;
    test(`a node can talk with the ${name} program`, { skip }, async (t) => {
      const line = blocks.flatMap(({ text }) => text.split("\n")).find((each) => each.includes(`"$PWD/${file}"`));
      const [typed = "", command = ""] = (line ?? "").split(" -- ");
      assert.match(typed, /^stitch run [\w.]+ --id [\w-]+ --protocol process-v1$/);
      const node = new StrictNode(t, ["/bin/sh", "-c", `cd "$HOME/hello" && exec ${command} "$@"`, "sh", ...FACTS], {
        HOME: home,
      });
      await node.beats();
      assert.equal(await node.reply("", "Ann"), `Hello, Ann, from ${name}`);
      node.tell("_later");
      await node.beats();
      node.tell("_exit");
      assert.deepEqual(await node.ended, { code: 0, signal: null });
      assert.deepEqual(node.logs, ["hello is up", "n1:other says Ann"]);
      assert.deepEqual([node.lines, node.broken, node.stderr], [[], [], ""]);
    });
  }
});

const noPython = spawnSync("python3", ["-c", "pass"]).status === 0 ? false : "python3 does not work here";
test("the minimal stitch of docs/process-v1.md does what the page says", { skip: noPython }, async (t) => {
  const page = readFileSync(join(root, "docs/process-v1.md"), "utf8");
  const program = /^```python\n([^]*?)^```$/m.exec(page)?.[1] ?? "";
  const node = new StrictNode(t, ["python3", "-c", program, ...FACTS], {});
  await node.beats();
  assert.equal(await node.reply("", "hello"), "5 characters");
  await node.beats();
  node.tell("_exit");
  assert.deepEqual(await node.ended, { code: 0, signal: null });
  assert.deepEqual([node.logs, node.lines, node.broken, node.stderr], [[], [], [], ""]);
});
