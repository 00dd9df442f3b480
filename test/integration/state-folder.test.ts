// Who owns a node's state folder, with real processes.
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { test, type TestContext } from "node:test";
import { until } from "../support/cluster.ts";

const OWNERSHIP = new URL("../../workers/node/ownership.ts", import.meta.url).href;
const skip = process.platform !== "linux" && "there is no /proc";
/** Takes the folder, starts a child that lives on, and keeps both. */
const HOLD = `
import { spawn } from "node:child_process";
import { Ownership } from ${JSON.stringify(OWNERSHIP)};
const [dir] = process.argv.slice(1);
await Ownership.take(dir).then((it) => {
  globalThis.ownership = it;
  const child = spawn("sleep", ["600"], { detached: true, stdio: "ignore" });
  console.log("taken " + child.pid);
  setInterval(() => undefined, 1000);
}, (error) => console.log(error.name));`;

function newFolder(t: TestContext): string {
  const dir = mkdtempSync(join(tmpdir(), "cs-owner-"));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  return dir;
}

function hold(t: TestContext, dir: string, env: Record<string, string> = {}) {
  const child: ChildProcess = spawn(process.execPath, ["--input-type=module", "--eval", HOLD, dir], {
    env: { PATH: process.env["PATH"] ?? "", ...env },
    stdio: ["ignore", "pipe", "pipe"],
  });
  const exited = once(child, "exit");
  let output = "";
  child.stdout?.on("data", (chunk: Buffer) => (output += chunk.toString()));
  const errors = child.stderr === null ? Promise.resolve("") : text(child.stderr);
  t.after(async () => {
    child.kill("SIGKILL");
    await exited;
    const sleeper = Number(/taken (\d+)/.exec(output)?.[1] ?? 0);
    if (sleeper > 0) process.kill(sleeper, "SIGKILL");
  });
  const says = () => until("it has said how it went", () => output.trim().replace(/ \d+$/, "") || null);
  return { child, exited, says, errors };
}

for (const length of [20, 150])
  test(`one of many that start at once gets the folder, whatever their TMPDIR is; its name has ${length} characters`, async (t) => {
    const dir = join(newFolder(t), "n".repeat(length));
    const holders = ["one", "two", "three", "four"].map((name) => {
      const TMPDIR = join(newFolder(t), name);
      mkdirSync(TMPDIR);
      return hold(t, dir, { TMPDIR });
    });
    const said = await Promise.all(holders.map(({ says }) => says()));
    assert.deepEqual(said.sort(), ["StateFolderTaken", "StateFolderTaken", "StateFolderTaken", "taken"]);
  });

test("a stopped worker keeps its folder; one killed with kill -9 leaves it at once, though its children live on", async (t) => {
  const dir = newFolder(t);
  const first = hold(t, dir);
  assert.equal(await first.says(), "taken");
  first.child.kill("SIGSTOP");
  assert.equal(await hold(t, dir).says(), "StateFolderTaken");
  first.child.kill("SIGKILL");
  await first.exited;
  assert.equal(await hold(t, dir).says(), "taken");
  assert.deepEqual(readdirSync(dir), ["owner.lock"], "nothing is left but the lock file");
});

test("nothing is printed by the way the lock is taken", async (t) => {
  const holder = hold(t, newFolder(t));
  assert.equal(await holder.says(), "taken");
  holder.child.kill("SIGTERM");
  assert.equal(await holder.errors, "");
});

test("a process that has the number of the former watchdog is not waited for", {
  skip: process.platform !== "linux" && "there is no /proc",
}, async (t) => {
  const dir = newFolder(t);
  const former = { session: "former", formerSessions: [], incarnation: 1, pid: 1, watchdogPid: process.pid };
  writeFileSync(join(dir, "owner.json"), JSON.stringify(former));
  const sinceMs = performance.now();
  assert.equal(await hold(t, dir).says(), "taken");
  assert.ok(performance.now() - sinceMs < 4000);
});

test("a copy of the folder of a worker that lives is refused: its stitches are not the copy's to end", {
  skip,
}, async (t) => {
  const dir = newFolder(t);
  // As the watchdog of this process.
  const watchdog = spawn("sh", ["-c", "sleep 600; :", "its-session"], { stdio: "ignore", detached: true });
  t.after(() => process.kill(-(watchdog.pid ?? assert.fail()), "SIGKILL"));
  const former = { session: "its-session", formerSessions: [], incarnation: 1, pid: process.pid };
  writeFileSync(join(dir, "owner.json"), JSON.stringify({ ...former, watchdogPid: watchdog.pid }));
  assert.equal(await hold(t, dir).says(), "StateFolderTaken");
});
