// Who owns a node's state folder, with real processes.
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import {
  chmodSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { test, type TestContext } from "node:test";
import { REDISES, until, withCluster } from "../support/cluster.ts";
import { logOf } from "../support/stitch-folder.ts";

const OWNERSHIP = new URL("../../workers/node/membership/ownership.ts", import.meta.url).href;
const skip = process.platform !== "linux" && "there is no /proc";
/** A program that takes the folder, starts a child that outlives it, and keeps running. */
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
  test(`one of many workers started at once gets the folder (name: ${length} characters), whatever their TMPDIR`, async (t) => {
    const dir = join(newFolder(t), "n".repeat(length));
    const holders = ["one", "two", "three", "four"].map((name) => {
      const TMPDIR = join(newFolder(t), name);
      mkdirSync(TMPDIR);
      return hold(t, dir, { TMPDIR });
    });
    const said = await Promise.all(holders.map(({ says }) => says()));
    assert.deepEqual(said.sort(), ["StateFolderTaken", "StateFolderTaken", "StateFolderTaken", "taken"]);
  });

test("a paused worker (SIGSTOP) keeps its folder; kill -9 frees the folder at once, though its children live on", async (t) => {
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

test("taking the lock prints nothing", async (t) => {
  const holder = hold(t, newFolder(t));
  assert.equal(await holder.says(), "taken");
  holder.child.kill("SIGTERM");
  assert.equal(await holder.errors, "");
});

test("a worker does not wait for a process that has the pid of the former watchdog", {
  skip: process.platform !== "linux" && "there is no /proc",
}, async (t) => {
  const dir = newFolder(t);
  const former = { session: "former", formerSessions: [], incarnation: 1, pid: 1, watchdogPid: process.pid };
  writeFileSync(join(dir, "owner.json"), JSON.stringify(former));
  const sinceMs = performance.now();
  assert.equal(await hold(t, dir).says(), "taken");
  assert.ok(performance.now() - sinceMs < 4000);
});

test("a copy of a live worker's folder is refused, so that it cannot end the worker's stitches", {
  skip,
}, async (t) => {
  const dir = newFolder(t);
  // Stands for the watchdog of this process.
  const watchdog = spawn("sh", ["-c", "sleep 600; :", "its-session"], { stdio: "ignore", detached: true });
  t.after(() => process.kill(-(watchdog.pid ?? assert.fail()), "SIGKILL"));
  const former = { session: "its-session", formerSessions: [], incarnation: 1, pid: process.pid };
  writeFileSync(join(dir, "owner.json"), JSON.stringify({ ...former, watchdogPid: watchdog.pid }));
  assert.equal(await hold(t, dir).says(), "StateFolderTaken");
});

test("a worker's files there are for its user alone, whatever its umask; its stitches keep that umask", async () => {
  await withCluster(REDISES[0]?.url ?? "", {}, async (cluster) => {
    const before = process.umask(0);
    const state = join(cluster.dir, "state-n1");
    const worker = await cluster.node("n1").finally(() => process.umask(before));
    await cluster.create("n1", "a", ["sh", "-c", "umask; exec sleep 600"]);
    await until("it has said its umask", () => logOf(cluster, "n1", "a").some(({ line }) => /^0+$/.test(line)));
    assert.equal(await worker.kill("SIGTERM"), 0);
    const names = readdirSync(state, { recursive: true }) as string[];
    for (const wanted of [/owner\.lock$/, /owner\.json$/, /stitches\.jsonl$/, /logs\/a\.log$/, /data\/a$/])
      assert.ok(
        names.some((name) => wanted.test(name)),
        names.join(" "),
      );
    for (const name of ["", ...names]) {
      const { mode } = lstatSync(join(state, name));
      assert.equal(mode & 0o077, 0, `${name} ${mode.toString(8)}`);
    }
  });
});

test("a worker does not start in a folder to which others may write, and reads no log through a link", async () => {
  await withCluster(REDISES[0]?.url ?? "", {}, async (cluster) => {
    const state = join(cluster.dir, "state-n1");
    mkdirSync(state);
    chmodSync(state, 0o777);
    const env = { STITCH_NODE_ID: "n1", STITCH_ROLES: "node", STITCH_STATE_DIR: state };
    const refused = cluster.part(["node"], env);
    await until("it has ended", () => refused.child.exitCode !== null);
    assert.equal(await refused.exited, 1);
    assert.match(refused.output, /others may write to \S+state-n1, its mode is 777\)\. .*STITCH_STATE_DIR/);
    assert.doesNotMatch(refused.output, /\n +at /, "a reason and a next step, no stack");

    chmodSync(state, 0o700);
    const worker = await cluster.node("n1");
    await cluster.create("n1", "a", ["sh", "-c", "echo hello; exec sleep 600"]);
    await until("it has said so", () => logOf(cluster, "n1", "a").some(({ line }) => line === "hello"));
    await worker.kill("SIGTERM");
    const log = join(state, cluster.name, "n1", "logs", "a.log");
    const foreign = join(cluster.dir, "foreign");
    const text = `${JSON.stringify({ at: new Date(0).toISOString(), source: "stdout", line: "secret" })}\n`;
    writeFileSync(foreign, text);
    rmSync(log);
    symlinkSync(foreign, log);
    await cluster.node("n1");
    await until("the stitch runs again", async () => (await cluster.master.state.stitch("n1:a")).state === "running");
    await assert.rejects(cluster.master.state.logs("n1:a", 10), /its log has the reason/);
    assert.equal(readFileSync(foreign, "utf8"), text, "nothing was written through the link either");
  });
});
