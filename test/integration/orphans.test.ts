// Which processes count as left by earlier runs of a worker, with real processes. Linux only.
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { test, type TestContext } from "node:test";
import { type Launch, readBootId } from "../../workers/node/processes/launches.ts";
import { Orphans, type OrphansOptions } from "../../workers/node/processes/orphans.ts";
import { type ProcessRow, readProcess, readProcesses } from "../../workers/node/processes/process-table.ts";
import { until } from "../support/cluster.ts";
import { isRunning } from "../support/process-list.ts";

const skip = process.platform !== "linux" && "there is no /proc";
const ORPHANS = new URL("../../workers/node/processes/orphans.ts", import.meta.url).href;

function run(t: TestContext, command: readonly string[], env: Record<string, string> = {}): ChildProcess {
  const [program = "", ...args] = command;
  const child = spawn(program, args, {
    detached: true,
    stdio: ["ignore", "pipe", "inherit"],
    env: { PATH: process.env["PATH"] ?? "", ...env },
  });
  const exited = once(child, "exit");
  t.after(async () => {
    if (child.exitCode === null && child.signalCode === null) child.kill("SIGKILL");
    await exited;
  });
  return child;
}

const pidOf = ({ pid }: ChildProcess): number => pid ?? assert.fail();

/** The journal's record of a process that runs. */
function launchOf(pid: number, id: string, more: Partial<Launch> = {}): Launch {
  const startedAt = readProcess(pid)?.startedAt ?? assert.fail();
  return { id, pid, startedAt, bootId: readBootId() ?? "", session: "gone", ...more };
}

function orphans(options: Partial<OrphansOptions>) {
  const said: string[] = [];
  const say = (message: string) => said.push(message);
  return { said, it: new Orphans({ sessions: [], launches: [], spare: () => false, say, ...options }) };
}

test("a launch is ended with a child that left its group; a process with another start time or boot id is not", {
  skip,
}, async (t) => {
  const launched = run(t, ["sh", "-c", "setsid sleep 600 & echo $!; exec sleep 600"]);
  const left = Number(await new Promise((resolve) => launched.stdout?.once("data", resolve)));
  const [other, earlier] = [run(t, ["sleep", "600"]), run(t, ["sleep", "600"])];
  const launches = [
    launchOf(pidOf(launched), "a"),
    launchOf(pidOf(other), "a", { startedAt: 1 }),
    launchOf(pidOf(earlier), "a", { bootId: randomUUID() }),
  ];
  const { it, said } = orphans({ launches });
  await it.end();
  assert.deepEqual([pidOf(launched), left, pidOf(other), pidOf(earlier)].map(isRunning), [false, false, true, true]);
  assert.match(said.join(), /^ended 2 processes/);
  assert.deepEqual([it.ended, it.holdUp("a")], [launches, null], "of none of them is anything left");
});

test("what is left of a launch's group is ended after its leader, even without a session in its environment", {
  skip,
}, async (t) => {
  const launched = run(t, ["sh", "-c", "env -i sleep 600 & echo $!; exec sleep 600"]);
  const bare = Number(await new Promise((resolve) => launched.stdout?.once("data", resolve)));
  const launches = [launchOf(pidOf(launched), "a")];
  launched.kill("SIGKILL");
  await once(launched, "exit");
  const { it } = orphans({ launches });
  await it.end();
  assert.equal(isRunning(bare), false);
  assert.deepEqual(it.ended, launches);
});

test("processes that carry an earlier session are ended, with their group; those of another session are not", {
  skip,
}, async (t) => {
  const session = randomUUID();
  const group = run(t, ["sh", "-c", "env -i sleep 600 & echo $!; exec sleep 600"], { STITCH_SESSION: session });
  const bare = Number(await new Promise((resolve) => group.stdout?.once("data", resolve)));
  const other = run(t, ["sleep", "600"], { STITCH_SESSION: randomUUID() });
  await orphans({ sessions: [randomUUID(), session] }).it.end();
  assert.deepEqual([pidOf(group), bare, pidOf(other)].map(isRunning), [false, false, true]);
});

test("a spared launch is left alone with all its processes, and is not listed as ended", { skip }, async (t) => {
  const session = randomUUID();
  const env = (id: string) => ({ STITCH_SESSION: session, STITCH_ID: id });
  const [kept, keptToo, ended] = ["kept", "kept", "ended"].map((id) => run(t, ["sleep", "600"], env(id)));
  assert.ok(kept && keptToo && ended);
  const launches = [launchOf(pidOf(kept), "kept", { session }), launchOf(pidOf(ended), "ended", { session })];
  const { it } = orphans({ sessions: [session], launches, spare: ({ id }) => id === "kept" });
  await it.end();
  assert.deepEqual([kept, keptToo, ended].map(pidOf).map(isRunning), [true, true, false]);
  assert.deepEqual([[...it.sessions], it.ended, it.holdUp("kept")], [[session], launches.slice(1), null]);
});

test("a process that cannot be killed holds up only its own stitch until it has ended, the worker only briefly", {
  skip,
}, async (t) => {
  const session = randomUUID();
  const [refuses, stays] = [run(t, ["sleep", "600"]), run(t, ["sleep", "600"])].map(pidOf);
  assert.ok(refuses !== undefined && stays !== undefined);
  const launches = [launchOf(refuses, "a", { session }), launchOf(stays, "b", { session })];
  const kill = ({ pid }: ProcessRow) => {
    // The other process acts as if it hung in the kernel: it accepts the signal and does not end.
    if (pid === refuses) throw new Error("kill EPERM");
  };
  let looks = 0;
  const read = () => {
    looks++;
    return readProcesses();
  };
  const { it } = orphans({ sessions: [session], launches, kill, read });
  await it.end();
  assert.match(it.holdUp("a") ?? "", new RegExp(`^process ${refuses}, .* for a, cannot be ended \\(kill EPERM\\)`));
  assert.match(it.holdUp("b") ?? "", new RegExp(`^process ${stays}, .*it was killed, and is still there`));
  assert.deepEqual([it.holdUp("c"), it.ended, [...it.sessions]], [null, [], [session]]);
  looks = 0;
  assert.equal(await it.retry(), false);
  assert.equal(looks, 0, "the machine is not read again for what is still there");
  process.kill(refuses, "SIGKILL");
  await until("it has ended", () => !isRunning(refuses));
  assert.equal(await it.retry(), true);
  assert.equal(it.holdUp("a"), null);
  assert.deepEqual(it.ended, launches.slice(0, 1));
  assert.notEqual(it.holdUp("b"), null);
});

test("a worker that was started from a stitch of its earlier run ends neither itself nor its parents", {
  skip,
}, async (t) => {
  const session = randomUUID();
  const code = `
    import { Orphans } from ${JSON.stringify(ORPHANS)};
    const say = (message) => console.log(message);
    await new Orphans({ sessions: [${JSON.stringify(session)}], launches: [], spare: () => false, say }).end();
    console.log("done");`;
  const worker = run(
    t,
    [
      "sh",
      "-c",
      'sleep 600 & "$@"; echo $?; kill %1 2>&-',
      "sh",
      process.execPath,
      "--input-type=module",
      "--eval",
      code,
    ],
    {
      STITCH_SESSION: session,
      STITCH_ID: "a",
    },
  );
  let output = "";
  worker.stdout?.on("data", (text: Buffer) => (output += text.toString()));
  await once(worker, "close");
  assert.match(output, /done\n0\n/);
});

test("nothing is ended if the system has no boot id to tell processes apart", { skip }, async (t) => {
  const session = randomUUID();
  const marked = run(t, ["sleep", "600"], { STITCH_SESSION: session });
  await orphans({ sessions: [session], launches: [launchOf(pidOf(marked), "a")], bootId: null }).it.end();
  assert.ok(isRunning(pidOf(marked)));
});
