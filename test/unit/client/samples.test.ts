// The samples that speak process-v1, with a strict node at the other end of their pipes.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { until } from "../../support/cluster.ts";
import { StrictNode } from "./strict-node.ts";

const samples = join(import.meta.dirname, "../../../infra/samples");
const hasPython = spawnSync("python3", ["-c", "pass"]).status === 0;

async function start(t: TestContext, program: string, file: string, dataDir: string): Promise<StrictNode> {
  const facts = ["coreid=n1", "instanceid=sample", "groupname=samples.sample.1", `datadir=${dataDir}`];
  const node = new StrictNode(t, [program, join(samples, file), ...facts]);
  await node.beats();
  return node;
}

async function stop(node: StrictNode): Promise<void> {
  node.tell("_exit");
  assert.deepEqual(await node.ended, { code: 0, signal: null });
  assert.deepEqual([node.lines, node.broken, node.stderr], [[], [], ""]);
}

test("the clock tells the time", async (t) => {
  const node = await start(t, process.execPath, "clock.mjs", tmpdir());
  const beforeMs = Date.now();
  const toldMs = Date.parse(await node.reply("", "what time is it?"));
  assert.ok(toldMs >= beforeMs && toldMs <= Date.now(), String(toldMs));
  await stop(node);
  assert.deepEqual(node.logs, ["the clock of n1 goes", "n1:other asks for the time", "the clock stops"]);
});

test("the counter goes on where it was", { skip: hasPython ? false : "there is no python3 on the PATH" }, async (t) => {
  const dataDir = mkdtempSync(join(tmpdir(), "counter-"));
  t.after(() => rmSync(dataDir, { recursive: true, force: true }));
  const first = await start(t, "python3", "counter.py", dataDir);
  const number = await until("it has counted", async () => Number(await first.reply("")) || null);
  await stop(first);
  assert.equal(first.logs[0], "sample of n1 counts on from 0");
  const kept = Number(/^remembers (\d+)$/.exec(first.logs.at(-1) ?? "")?.[1]);
  assert.ok(kept >= number, `${kept}, ${number}`);
  const second = await start(t, "python3", "counter.py", dataDir);
  assert.equal(second.logs[0], `sample of n1 counts on from ${kept}`);
  assert.ok(Number(await second.reply("", "again")) >= kept);
  // It counts in a thread of its own.
  assert.ok(Number(await second.reply("", "reset")) <= 1);
  await stop(second);
});
