// Health checks of programs (`spec.check`), with real nodes, programs and ports.
import assert from "node:assert/strict";
import { rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { once } from "node:events";
import { join } from "node:path";
import { describe, it } from "node:test";
import type { JobResource } from "../../src/contract/job.ts";
import type { StitchResource } from "../../src/contract/stitch.ts";
import { readProcesses } from "../../workers/node/processes/process-table.ts";
import { REDISES, type TestCluster, until, withCluster } from "../support/cluster.ts";
import { isRunning, processesOf } from "../support/process-list.ts";
import { quietPort } from "../support/quiet-port.ts";
import { dataDirOf, linesOf, logOf } from "../support/stitch-folder.ts";
import { ANSWERS } from "../support/stitch-programs.ts";

const url = REDISES[0]?.url ?? "";
const linux = { skip: process.platform !== "linux" && "needs /proc" };
const SERVER = join(import.meta.dirname, "../support/stitches/checked.mjs");
const LIVES = ["sleep", "3600"];
/** Often, so that a test does not wait long; and with time to answer on a machine that is busy with other tests. */
const PATIENT = { intervalMs: 1000, timeoutMs: 1000, redAfter: 2 };

const server = (port: number, mode = "well") => [process.execPath, SERVER, String(port), mode];
const httpOn = (port: number, path = "/health") => ({ http: { port, path }, ...PATIENT });

const create = (cluster: TestCluster, id: string, spec: Record<string, unknown>, more: object = {}) =>
  cluster.run({
    command: "stitch.create",
    target: "test.stitch.1",
    node: "n1",
    id,
    spec: { adaptor: "process", protocol: "none", ...spec },
    ...more,
  });
const errorOf = (job: JobResource) => job.tasks[0]?.steps[0]?.error ?? assert.fail(JSON.stringify(job));
const succeeds = async (job: Promise<JobResource>) => {
  const ended = await job;
  assert.equal(ended.status, "succeeded", JSON.stringify(ended));
};
const comesTo = (cluster: TestCluster, id: string, wanted: Partial<StitchResource>) =>
  until(`${id} is ${JSON.stringify(wanted)}`, async () => {
    const stitch = await cluster.master.state.stitch(id);
    const isIt = Object.entries(wanted).every(([name, value]) => stitch[name as keyof StitchResource] === value);
    return isIt && stitch;
  });
const said = (cluster: TestCluster, id: string): string[] =>
  logOf(cluster, "n1", id)
    .filter(({ source }) => source === "system")
    .map(({ line }) => line);
async function told(cluster: TestCluster, id: string, type: string): Promise<Record<string, unknown>[]> {
  const { items } = await cluster.master.state.events(null, 1000);
  return items.flatMap((event) => (event.type === type && event.stitch === `n1:${id}` ? [event.data ?? {}] : []));
}
/** Asks the server of `checked.mjs`. */
const ask = async (port: number, path: string) => {
  const response = await globalThis.fetch(`http://127.0.0.1:${port}${path}`);
  await response.arrayBuffer();
};

describe("a check of a program without a protocol", { concurrency: 3 }, () => {
  it("decides its health: green when it answers, red when its port is closed, and nothing else happens", async () => {
    await withCluster(url, {}, async (cluster) => {
      await cluster.node("n1");
      const port = await quietPort();
      await succeeds(create(cluster, "s", { command: server(port), check: httpOn(port) }));
      const { pid } = await comesTo(cluster, "s", { state: "running", health: "green" });
      await ask(port, "/close");
      await comesTo(cluster, "s", { state: "running", health: "red" });
      const reason = `http 127.0.0.1:${port}/health: connect ECONNREFUSED`;
      await until("the event is there", async () => (await told(cluster, "s", "stitch.health")).length > 0);
      assert.deepEqual(await told(cluster, "s", "stitch.health"), [{ health: "red", reason }]);
      const red = `its check is red: 2 checks in a row have failed, the last: ${reason}`;
      await until("its log says so", () => said(cluster, "s").includes(red));
      const after = await cluster.master.state.stitch("s");
      assert.deepEqual([after.pid, after.restarts, after.state], [pid, 0, "running"]);
    });
  });

  it("restarts a red program under its policy where the spec says so, and counts each restart", async () => {
    await withCluster(url, {}, async (cluster) => {
      await cluster.node("n1");
      const port = await quietPort();
      const check = { ...httpOn(port), restartWhenRed: true };
      // It ends well when it is told to end: that must not pass for a program that has run to its end.
      const restart = { policy: "on-failure", maxRestarts: 1, backoffMs: 10 };
      const command = ["sh", "-c", `trap 'kill $!; exit 0' TERM; ${server(port).join(" ")} & wait`];
      await succeeds(create(cluster, "s", { command, check, restart }));
      const { pid } = await comesTo(cluster, "s", { health: "green" });
      await ask(port, "/close");
      const again = await comesTo(cluster, "s", { state: "running", health: "green", restarts: 1 });
      assert.notEqual(again.pid, pid);
      assert.ok(!isRunning(pid ?? assert.fail()));
      await ask(port, "/set?status=503");
      await comesTo(cluster, "s", { state: "failed" });
      const reasons = (await told(cluster, "s", "stitch.failed")).map((data) => String(data["reason"]));
      assert.match(reasons[0] ?? "", /^it was stopped because its check was red: http .*: connect ECONNREFUSED$/);
      assert.match(reasons[1] ?? "", /^a crash loop: it was restarted 1 times/);
      assert.match(said(cluster, "s").at(-1) ?? "", /^failed: it was stopped because .*: answered 503; a crash loop/);
    });
  });

  it("lets a start fail that does not become green in time, with the last failure as the reason", async () => {
    await withCluster(url, {}, async (cluster) => {
      await cluster.node("n1");
      const [port, ill] = [await quietPort(), await quietPort()];
      const timeoutMs = 5000;
      const [closed, wrong] = await Promise.all([
        create(cluster, "closed", { command: server(port, "closed"), check: httpOn(port) }, { timeoutMs }),
        create(cluster, "ill", { command: server(ill, "ill"), check: httpOn(ill) }, { timeoutMs }),
      ]);
      assert.deepEqual(errorOf(closed), {
        code: "start_timeout",
        message: `it was not up after 5000 ms: http 127.0.0.1:${port}/health: connect ECONNREFUSED`,
      });
      assert.match(errorOf(wrong).message, /: answered 500$/);
      await comesTo(cluster, "closed", { state: "starting", health: "missing" });
      assert.match(said(cluster, "ill").join(), /it is not green yet: 2 checks have failed/);
      // It may still come up, as any start that took too long.
      await ask(ill, "/set?status=200");
      await comesTo(cluster, "ill", { state: "running", health: "green" });
    });
  });

  it("shows a program that crashes again and again as green at no time", async () => {
    await withCluster(url, {}, async (cluster) => {
      await cluster.node("n1");
      const port = await quietPort();
      const restart = { maxRestarts: 2, backoffMs: 10 };
      const command = ["sh", "-c", "sleep 2; echo gone >&2; exit 3"];
      const error = errorOf(await create(cluster, "s", { command, check: httpOn(port), restart }));
      assert.equal(error.code, "exited_early");
      assert.match(error.message, /^it exited with code 3 before it was green: http .*: connect ECONNREFUSED$/);
      assert.equal(error.stderrTail, "gone");
      await comesTo(cluster, "s", { state: "failed", restarts: 2 });
      assert.deepEqual(await told(cluster, "s", "stitch.started"), []);
      assert.deepEqual(await told(cluster, "s", "stitch.health"), []);
    });
  });

  it("takes what is expected for well, and reads no body to its end", async () => {
    await withCluster(url, {}, async (cluster) => {
      const node = await cluster.node("n1");
      const [port, huge] = [await quietPort(), await quietPort()];
      const expecting = { ...httpOn(port), http: { port, path: "/health", expect: 500 } };
      await Promise.all([
        succeeds(create(cluster, "s", { command: server(port, "ill"), check: expecting })),
        succeeds(create(cluster, "huge", { command: server(huge), check: httpOn(huge, "/huge") })),
      ]);
      await ask(port, "/set?status=200");
      await comesTo(cluster, "s", { health: "red" });
      await until("its log says why", () => said(cluster, "s").at(-1)?.endsWith(" answered 200 instead of 500"));
      await comesTo(cluster, "huge", { state: "running", health: "green" });
      assert.ok(isRunning(node.pid));
    });
  });

  it("is green by tcp where a port accepts and never answers, and fails by http", async () => {
    await withCluster(url, {}, async (cluster) => {
      await cluster.node("n1");
      const mute = createServer((socket) => void socket.on("error", () => undefined).resume());
      mute.listen(0, "127.0.0.1");
      await once(mute, "listening");
      const address = mute.address();
      const port = typeof address === "object" && address !== null ? address.port : assert.fail();
      try {
        const [, silent] = await Promise.all([
          succeeds(create(cluster, "tcp", { command: LIVES, check: { tcp: { port }, ...PATIENT } })),
          create(cluster, "http", { command: LIVES, check: httpOn(port) }, { timeoutMs: 5000 }),
        ]);
        assert.match(errorOf(silent).message, /: no answer within 1000 ms$/);
        await comesTo(cluster, "tcp", { health: "green" });
      } finally {
        mute.close();
      }
    });
  });
});

describe("a check by a command", { concurrency: 3 }, () => {
  it("runs in the folder and environment of the program, and its output is in the reason, not in the log", async () => {
    await withCluster(url, {}, async (cluster) => {
      await cluster.node("n1");
      const script =
        'test -e seen || echo "$STITCH_ID $MINE" > seen; test -e well && exit 0; echo "it is ill" >&2; exit 4';
      const spec = { command: LIVES, env: { MINE: "1" }, check: { exec: ["sh", "-c", script], ...PATIENT } };
      const job = await create(cluster, "s", spec, { timeoutMs: 5000 });
      assert.match(errorOf(job).message, /: exited with code 4: it is ill$/);
      const dir = dataDirOf(cluster, "n1", "s");
      assert.deepEqual(linesOf(join(dir, "seen")), ["s 1"]);
      writeFileSync(join(dir, "well"), "");
      await comesTo(cluster, "s", { state: "running", health: "green" });
      rmSync(join(dir, "well"));
      await comesTo(cluster, "s", { health: "red" });
      const sources = logOf(cluster, "n1", "s").map(({ source }) => source);
      assert.deepEqual([...new Set(sources)], ["system"]);
    });
  });

  it("says what cannot be started", async () => {
    await withCluster(url, {}, async (cluster) => {
      await cluster.node("n1");
      const check = { exec: ["no-such-program"], ...PATIENT };
      const job = await create(cluster, "s", { command: LIVES, check }, { timeoutMs: 5000 });
      assert.match(errorOf(job).message, /: there is no program "no-such-program" on this node's PATH$/);
    });
  });

  it("is killed with all its processes when it hangs, and when its output has no end", async () => {
    await withCluster(url, {}, async (cluster) => {
      await cluster.node("n1");
      const hangs = "trap '' TERM; echo so far; sleep 3601 & echo $! >> children; wait; sleep 3602";
      const [job, flood] = await Promise.all([
        create(cluster, "s", { command: LIVES, check: { exec: ["sh", "-c", hangs], ...PATIENT } }, { timeoutMs: 5000 }),
        create(cluster, "flood", { command: LIVES, check: { exec: ["yes"], ...PATIENT } }, { timeoutMs: 5000 }),
      ]);
      assert.match(errorOf(job).message, /: no answer within 1000 ms: so far$/);
      assert.match(errorOf(flood).message, /: no answer within 1000 ms: (y; )+y$/);
      assert.ok(errorOf(flood).message.length < 1000);
      const children = join(dataDirOf(cluster, "n1", "s"), "children");
      await until("the check was made again", () => linesOf(children).length > 2);
      await succeeds(cluster.run({ command: "stitch.stop", target: "s" }));
      assert.deepEqual(linesOf(children).map(Number).filter(isRunning), []);
    });
  });

  it("leaves nothing when its stitch is stopped, or its worker is killed, while it runs", linux, async () => {
    await withCluster(url, {}, async (cluster) => {
      const node = await cluster.node("n1");
      // Each look leaves a process outside of its group, and hangs.
      const script = "setsid sleep 3603 & echo $! > outside; echo $$ > hangs; sleep 3604";
      const check = { exec: ["sh", "-c", script], intervalMs: 60_000, timeoutMs: 60_000 };
      const looked = async (id: string): Promise<number[]> => {
        const job = await create(cluster, id, { command: LIVES, check }, { timeoutMs: 2500 });
        assert.equal(errorOf(job).message, "it was not up after 2500 ms");
        const dir = dataDirOf(cluster, "n1", id);
        await until(`${id} is looked at`, () => linesOf(join(dir, "hangs")).length > 0);
        const pids = ["hangs", "outside"].map((file) => Number(linesOf(join(dir, file))[0]));
        assert.deepEqual(pids.map(isRunning), [true, true]);
        return pids;
      };
      const stopped = await looked("s");
      await succeeds(cluster.run({ command: "stitch.stop", target: "s" }));
      assert.deepEqual(stopped.map(isRunning), [false, false]);
      const orphaned = await looked("t");
      await node.kill("SIGKILL");
      await until("the command is gone", () => !orphaned.some(isRunning));
      await until("nothing is left", async () => (await processesOf(dataDirOf(cluster, "n1", "t"))).length === 0);
    });
  });
});

describe("a check", { concurrency: 2 }, () => {
  it("comes beside the heartbeats of process-v1: the worse of the two is shown, and a start needs both", async () => {
    await withCluster(url, {}, async (cluster) => {
      await cluster.node("n1");
      const dir = dataDirOf(cluster, "n1", "s");
      const check = { exec: ["test", "-e", "well"], ...PATIENT, restartWhenRed: true };
      const spec = { protocol: "process-v1", heartbeatMs: 200, command: ANSWERS, check, restart: { backoffMs: 10 } };
      const job = await create(cluster, "s", spec, { timeoutMs: 4000 });
      assert.match(errorOf(job).message, /^it was not up after 4000 ms: exec test -e well: exited with code 1$/);
      writeFileSync(join(dir, "well"), "");
      const { pid } = await comesTo(cluster, "s", { state: "running", health: "green" });
      assert.ok(pid !== null && pid !== undefined);
      // It answers no heartbeats, and its check succeeds: it is shown as red, and that restarts nothing.
      process.kill(-pid, "SIGSTOP");
      await comesTo(cluster, "s", { health: "red", restarts: 0 });
      process.kill(-pid, "SIGCONT");
      await comesTo(cluster, "s", { health: "green", restarts: 0 });
      rmSync(join(dir, "well"));
      await comesTo(cluster, "s", { restarts: 1, state: "starting" });
      writeFileSync(join(dir, "well"), "");
      await comesTo(cluster, "s", { state: "running", health: "green", restarts: 1 });
    });
  });

  it("is made again by the next run of the worker", async () => {
    await withCluster(url, {}, async (cluster) => {
      const node = await cluster.node("n1");
      const port = await quietPort();
      await succeeds(create(cluster, "s", { command: server(port), check: httpOn(port) }));
      await node.kill("SIGKILL");
      await cluster.node("n1");
      await comesTo(cluster, "s", { state: "running", health: "green" });
      await ask(port, "/close");
      await comesTo(cluster, "s", { health: "red" });
    });
  });

  it("of two hundred stitches on a node lets the node do its work, and ends with them", linux, async () => {
    await withCluster(url, {}, async (cluster) => {
      const node = await cluster.node("n1");
      const port = await quietPort();
      await succeeds(create(cluster, "server", { command: server(port), check: httpOn(port) }));
      const check = { http: { port, path: "/health" }, ...PATIENT };
      const spec = { adaptor: "process", protocol: "none", command: LIVES, check };
      const target = "test.many.1";
      await succeeds(cluster.run({ command: "stitch.create", target, node: "n1", count: 200, spec }, null, 120_000));
      const cpuOf = async () => (await readProcesses())?.find(({ pid }) => pid === node.pid)?.cpuMs ?? assert.fail();
      const [beforeMs, sinceMs] = [await cpuOf(), performance.now()];
      await until("there were five checks of each", () => performance.now() - sinceMs > 5000);
      const share = ((await cpuOf()) - beforeMs) / (performance.now() - sinceMs);
      assert.ok(share < 0.5, `the worker used ${share.toFixed(2)} of a core for 200 checks a second`);
      const { items } = await cluster.master.state.stitches({ limit: 1000, cursor: null }, { group: target });
      assert.deepEqual([items.length, [...new Set(items.map(({ health }) => health))]], [200, ["green"]]);
      await succeeds(cluster.run({ command: "group.stop", target }, null, 60_000));
    });
  });
});
