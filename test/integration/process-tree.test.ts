import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { test } from "node:test";
import { EscapedProcesses, kill } from "../../workers/node/processes/escaped-processes.ts";
import {
  cpuMsOf,
  processesFromProc,
  processesFromPs,
  readProcess,
} from "../../workers/node/processes/process-table.ts";
import { ProcessTree, type Usage } from "../../workers/node/processes/process-tree.ts";
import { until } from "../support/cluster.ts";
import { isRunning } from "../support/process-list.ts";

const linux = { skip: process.platform === "linux" ? false : "needs /proc" };

/** Stitches as a node starts them, with their own session. At the end all processes that carry the session are killed. */
class Stitches {
  readonly session = randomUUID();
  readonly roots = new Map<string, number>();
  readonly tree = new ProcessTree(this.session);

  /** Resolves when the script has printed its first line. */
  async start(id: string, script: string): Promise<ChildProcess> {
    const child = spawn("/bin/sh", ["-c", script], {
      detached: true,
      stdio: ["pipe", "pipe", "inherit"],
      env: { PATH: process.env["PATH"], STITCH_SESSION: this.session, STITCH_ID: id },
    });
    this.roots.set(id, child.pid ?? assert.fail());
    await nextLine(child);
    return child;
  }

  async measure(id: string, nowMs = 0): Promise<Usage> {
    return (await this.tree.measure(this.roots, nowMs))?.get(id) ?? assert.fail();
  }

  pid(id: string): number {
    return this.roots.get(id) ?? assert.fail();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const [id, pid] of this.roots) {
      if (isRunning(-pid)) process.kill(-pid, "SIGKILL");
      await endEscaped(this.session, id);
    }
  }
}

async function nextLine(child: ChildProcess): Promise<string> {
  const lines = createInterface({ input: child.stdout ?? assert.fail() });
  const [line] = (await once(lines, "line")) as [string];
  lines.close();
  return line;
}

const endEscaped = (session: string, id: string, onError: (error: unknown) => void = () => undefined) =>
  new EscapedProcesses(session, onError).end(id);

/** Dead, or a zombie: dead, but not yet collected by its parent. */
const isGone = (pid: number): boolean => readProcess(pid)?.zombie ?? true;

test("children and their children are counted, in one pass for all stitches", linux, async () => {
  await using stitches = new Stitches();
  await stitches.start("tree", "sleep 300 & sh -c 'sleep 300 & echo up; wait'; wait");
  await stitches.start("leaf", "echo up; exec sleep 300");
  // A program that is just being started still has the memory of the process that starts it.
  await until("there are four and one", async () => (await stitches.measure("tree")).processes === 4);
  const usages = await stitches.tree.measure(stitches.roots, 0);
  assert.deepEqual(
    [...(usages ?? [])].map(([id, { processes, escaped }]) => [id, processes, escaped]),
    [
      ["tree", 4, []],
      ["leaf", 1, []],
    ],
  );
  const [tree, leaf] = [usages?.get("tree")?.memoryBytes ?? 0, usages?.get("leaf")?.memoryBytes ?? 0];
  assert.ok(leaf > 64 * 1024 && tree > leaf, `${tree} and ${leaf} bytes`);
});

test(
  "a child that leaves the group has escaped, with all it starts, whether its parent lives or not",
  linux,
  async () => {
    await using stitches = new Stitches();
    await stitches.start("a", "setsid sleep 300 & echo up; wait");
    await stitches.start("b", "(setsid sh -c 'env -i sleep 300; :' &); echo up; exec sleep 300");
    await stitches.start("c", "echo up; exec sleep 300");
    const { escaped: descendants } = await until("it has left a's group", async () => {
      const usage = await stitches.measure("a");
      return usage.escaped.length === 1 && usage.processes === 2 && usage;
    });
    assert.equal(readProcess(descendants[0] ?? 0)?.parent, stitches.pid("a"));
    const { escaped: orphans } = await until("both have left b's group", async () => {
      const usage = await stitches.measure("b");
      return usage.escaped.length === 2 && usage.processes === 3 && usage;
    });
    assert.deepEqual(
      orphans.map((pid) => readProcess(pid)?.group === stitches.pid("b")),
      [false, false],
    );
    assert.deepEqual((await stitches.measure("c")).escaped, []);
    // Processes that carry another session do not count.
    const foreign = await new ProcessTree(randomUUID()).measure(stitches.roots, 0);
    assert.deepEqual(foreign?.get("b")?.escaped, []);
  },
);

test("the CPU time of a busy loop is measured as exactly as the kernel counts it", linux, async () => {
  await using stitches = new Stitches();
  await stitches.start("busy", "echo up; while :; do :; done");
  await stitches.start("idle", "echo up; exec sleep 300");
  const cpuMs = () => readProcess(stitches.pid("busy"))?.cpuMs ?? assert.fail();
  const beforeMs = cpuMs();
  assert.equal((await stitches.measure("busy", 0)).cpuPercent, null);
  const sinceMs = cpuMs();
  await until("it has worked", () => cpuMs() >= sinceMs + 300);
  // The time is an argument, here one second.
  const usages = await stitches.tree.measure(stitches.roots, 1000);
  const usedMs = (usages?.get("busy")?.cpuPercent ?? 0) * 10;
  assert.ok(usedMs >= 300 && usedMs <= cpuMs() - beforeMs, `${usedMs} ms measured`);
  assert.ok((usages?.get("idle")?.cpuPercent ?? 100) < 30);
});

test("the CPU time of a child that started and ended between two passes counts for its stitch", linux, async () => {
  await using stitches = new Stitches();
  const loop = "n=0; while [ $n -lt 200000 ]; do n=$((n+1)); done";
  const child = await stitches.start("a", `echo up; read line; sh -c '${loop}'; echo done; read line`);
  await stitches.measure("a", 0);
  const before = readProcess(stitches.pid("a")) ?? assert.fail();
  child.stdin?.write("go\n");
  assert.equal(await nextLine(child), "done");
  const { cpuPercent } = await stitches.measure("a", 1000);
  const after = readProcess(stitches.pid("a")) ?? assert.fail();
  assert.equal(before.childrenCpuMs, 0);
  assert.ok(after.childrenCpuMs > 0);
  assert.ok((cpuPercent ?? 0) * 10 >= after.childrenCpuMs, `${cpuPercent} % measured, ${after.childrenCpuMs} ms used`);
});

test("a process is shown with the figures that it has of itself", linux, () => {
  const ownCpuMs = () => (process.cpuUsage().user + process.cpuUsage().system) / 1000;
  const beforeMs = ownCpuMs();
  const { cpuMs, memoryBytes, parent } = readProcess(process.pid) ?? assert.fail();
  // The kernel cuts both the user time and the system time to whole ticks.
  assert.ok(cpuMs > beforeMs - 25 && cpuMs <= ownCpuMs() + 1, `${cpuMs} ms, not ${beforeMs} ms`);
  const ratio = memoryBytes / process.memoryUsage.rss();
  assert.ok(ratio > 0.5 && ratio < 2, `${memoryBytes} bytes`);
  assert.equal(parent, process.ppid);
});

test("a process name that imitates the fields of /proc does not mislead", linux, async () => {
  await using stitches = new Stitches();
  const pid = (await stitches.start("a", "printf 'x) Z 1 1 (\\n' > /proc/$$/comm; echo up; read line")).pid ?? 0;
  const row = readProcess(pid) ?? assert.fail();
  assert.deepEqual([row.parent, row.group, row.zombie], [process.pid, pid, false]);
});

test("processes that escaped are killed, with all they have started, and nothing else", linux, async () => {
  await using stitches = new Stitches();
  await stitches.start(
    "a",
    "(setsid sh -c 'sleep 300 & env -i sleep 300; :' &); (setsid sleep 300 &); echo up; read line",
  );
  await stitches.start("b", "(setsid sleep 300 &); echo up; read line");
  const [ofA, ofB] = await until("they have escaped", async () => {
    const [a, b] = [await stitches.measure("a"), await stitches.measure("b")];
    return a.escaped.length === 4 && b.escaped.length === 1 && [a.escaped, b.escaped];
  });
  process.kill(-stitches.pid("a"), "SIGKILL");
  await until("a is gone", () => isGone(stitches.pid("a")));
  const noLonger = new EscapedProcesses(stitches.session, (error) => assert.fail(String(error)));
  assert.deepEqual((await noLonger.end("a", () => false)).killed, []);
  assert.ok(!ofA?.some(isGone));
  assert.deepEqual(new Set((await endEscaped(stitches.session, "a")).killed), new Set(ofA));
  await until("they are gone", () => ofA?.every(isGone));
  assert.deepEqual((await endEscaped(stitches.session, "a")).killed, []);
  assert.ok(![stitches.pid("b"), ...(ofB ?? [])].some(isGone));
  for (const session of ["", randomUUID()]) assert.deepEqual((await endEscaped(session, "b")).killed, []);
});

test("stitches that end together share the searches for their escaped processes", linux, async () => {
  await using stitches = new Stitches();
  for (const id of ["a", "b", "c"])
    await stitches.start(id, "(setsid sh -c 'env -i sleep 300; :' &); echo up; read line");
  const [ofA, ofB, ofC] = await until("they have escaped", async () => {
    const usages = [...((await stitches.tree.measure(stitches.roots, 0)) ?? []).values()];
    return usages.every(({ escaped }) => escaped.length === 2) && usages.map(({ escaped }) => escaped);
  });
  for (const id of ["a", "b"]) process.kill(-stitches.pid(id), "SIGKILL");
  await until("a and b are gone", () => ["a", "b"].every((id) => isGone(stitches.pid(id))));
  const escaped = new EscapedProcesses(stitches.session, (error) => assert.fail(String(error)));
  const found = await Promise.all([escaped.end("a"), escaped.end("b")]);
  assert.deepEqual(
    found.map(({ killed }) => new Set(killed)),
    [new Set(ofA), new Set(ofB)],
  );
  await until("they are gone", () => [...(ofA ?? []), ...(ofB ?? [])].every(isGone));
  assert.ok(![stitches.pid("c"), ...(ofC ?? [])].some(isGone));
});

test("a process that may not be killed is reported, and does not stop the rest", linux, async (t) => {
  await using stitches = new Stitches();
  await stitches.start("a", "sleep 300 & echo up; wait");
  await until("both are up", async () => (await stitches.measure("a")).processes === 2);
  const refused = t.mock.method(process, "kill", () => {
    throw Object.assign(new Error("kill EPERM"), { code: "EPERM" });
  });
  const errors: unknown[] = [];
  const found = await endEscaped(stitches.session, "a", (error) => errors.push(error));
  refused.mock.restore();
  assert.deepEqual(
    [found.killed.length, found.refused.length],
    [0, 2],
    "what may not be killed does not count as killed",
  );
  assert.match(
    String(errors[0]),
    new RegExp(`process ${found.refused[0]}, which the stitch a left behind, could not be`),
  );
  assert.equal(errors.length, 2);
});

test("a process is killed only if it is still the one that was seen", linux, async (t) => {
  await using stitches = new Stitches();
  await stitches.start("a", "echo up; exec sleep 300");
  const row = readProcess(stitches.pid("a")) ?? assert.fail();
  const signals = t.mock.method(process, "kill");
  kill({ ...row, startedAt: row.startedAt - 1 });
  assert.equal(signals.mock.callCount(), 0);
  kill(row);
  assert.equal(signals.mock.callCount(), 1);
  signals.mock.restore();
  await until("it is gone", () => isGone(row.pid));
  kill(row);
});

test("ps shows the same as /proc, in the fields that it has", async (t) => {
  const shown = await processesFromPs();
  if (shown === null) {
    t.skip("there is no ps here that knows its options");
    return;
  }
  const me = shown.find(({ pid }) => pid === process.pid) ?? assert.fail();
  assert.equal(me.parent, process.ppid);
  assert.ok(me.memoryBytes > 1024 * 1024);
  const same = (await processesFromProc())?.find(({ pid }) => pid === process.pid);
  if (same !== undefined) assert.deepEqual([me.parent, me.group, me.zombie], [same.parent, same.group, same.zombie]);
  const usage = await new ProcessTree("", processesFromPs).measure(new Map([["a", process.pid]]), 0);
  assert.ok((usage?.get("a")?.processes ?? 0) >= 1);
});

for (const [time, ms] of [
  ["00:00:07", 7000],
  ["01:02:03", 3_723_000],
  ["2-00:00:01", 172_801_000],
  ["0:01.25", 1250],
  ["123:45.67", 7_425_670],
] as const)
  test(`ps's ${time} is ${ms} ms`, () => assert.equal(cpuMsOf(time), ms));
