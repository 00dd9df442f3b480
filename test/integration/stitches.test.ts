import assert from "node:assert/strict";
import { existsSync, mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, it } from "node:test";
import { COMMANDS } from "../../src/domain/commands/command.ts";
import type { RequestError } from "../../src/domain/errors.ts";
import type { StitchResource } from "../../src/contract/stitch.ts";
import type { JobResource } from "../../src/contract/job.ts";
import { readProcesses } from "../../workers/node/processes/process-table.ts";
import { REDISES, type TestCluster, until, withCluster } from "../support/cluster.ts";
import { isRunning } from "../support/process-list.ts";
import { dataDirOf, linesOf, logOf, startedTimes } from "../support/stitch-folder.ts";

const [standalone] = REDISES;
const url = standalone?.url ?? "";
const withCode = (code: string) => (error: unknown) => (error as RequestError).code === code;

/**
 * A stitch that speaks ProcessV1. At its first start it makes the files that FLAGS names. While one of them is in its
 * folder, the stitch answers no heartbeat (`quiet`), ignores `_exit` (`deaf`), ignores SIGTERM (`stubborn`), or crashes at its
 * start (`crash`). It notes in `got` what it was told to do.
 */
const SPEAKER = [
  "sh",
  "-c",
  `[ -e began ] || for flag in $FLAGS; do : > "$flag"; done
  echo start >> began
  [ -e crash ] && exit 3
  trap 'echo SIGTERM >> got; [ -e stubborn ] || exit 5' TERM
  while :; do
    if read -r line; then
      case "$line" in
        *'"_heartbeat"'*) id="\${line#*\\"Id\\":}"; [ -e quiet ] || printf '{"Command":"sync","Id":%s}\\nend\\n' "\${id%%,*}" ;;
        *'"_exit"'*) echo _exit >> got; [ -e deaf ] || exit 0 ;;
      esac
    else sleep 0.1; fi
  done`,
];
const speaker = (flags: string, more: Record<string, unknown> = {}) => ({
  adaptor: "process",
  protocol: "process-v1",
  command: SPEAKER,
  env: { FLAGS: flags },
  heartbeatMs: 100,
  ...more,
});
/** A program that counts its starts in the file `starts`, then runs `script`. */
const program = (script: string, restart: Record<string, unknown> = {}, more: Record<string, unknown> = {}) => ({
  adaptor: "process",
  protocol: "none",
  command: ["sh", "-c", `echo start >> starts; ${script}`],
  restart,
  ...more,
});
/** Short waits between restarts. */
const QUICK = { backoffMs: 10, maxBackoffMs: 20 };

/** The node `n1` of a cluster of its own, and what its stitches leave on its disk. */
class Node {
  readonly cluster: TestCluster;
  constructor(cluster: TestCluster) {
    this.cluster = cluster;
  }

  async begin(id: string, spec: Record<string, unknown>, more: Record<string, unknown> = {}): Promise<JobResource> {
    return this.cluster.run({ command: "stitch.create", target: "test.stitch.1", node: "n1", id, spec, ...more });
  }

  stitch(id: string): Promise<StitchResource> {
    return this.cluster.master.state.stitch(id);
  }

  async command(command: "start" | "stop" | "restart", target: string, waitMs?: number): Promise<JobResource> {
    return this.cluster.run({ command: `stitch.${command}`, target }, null, waitMs);
  }

  async comesTo(id: string, state: StitchResource["state"]): Promise<StitchResource> {
    return until(`${id} is ${state}`, async () => {
      // Just after its create was sent, the stitch is not there yet.
      const stitch = await this.stitch(id).catch(() => null);
      return stitch?.state === state ? stitch : null;
    });
  }

  file(id: string, name: string): string {
    return join(dataDirOf(this.cluster, "n1", id), name);
  }

  /** The complete lines of a file in a stitch's folder; none if there is no such file. */
  lines(id: string, name: string): string[] {
    return linesOf(this.file(id, name));
  }

  /** What the node itself wrote into a stitch's log, as one text. */
  said(id: string): string {
    return logOf(this.cluster, "n1", id)
      .filter(({ source }) => source === "system")
      .map(({ line }) => line)
      .join("\n");
  }

  says(id: string, what: RegExp): Promise<string> {
    return until(`${what} in the log of ${id}`, () => (what.test(this.said(id)) ? this.said(id) : null));
  }

  /** The data of the events of one type about a stitch. */
  async told(id: string, type: string): Promise<Record<string, unknown>[]> {
    const { items } = await this.cluster.master.state.events(null, 1000);
    return items.filter((event) => event.type === type && event.stitch === `n1:${id}`).map(({ data }) => data ?? {});
  }
}

const onNode = (work: (node: Node) => Promise<void>) => () =>
  withCluster(url, {}, async (cluster) => {
    await cluster.node("n1");
    await work(new Node(cluster));
  });

const stepOf = (job: JobResource) => job.tasks[0]?.steps[0] ?? assert.fail("no step");

describe("restart policies", { concurrency: 2 }, () => {
  it(
    "restart after every exit (always), only after failures (on-failure), or not at all (never)",
    onNode(async (node) => {
      const cases = ["always", "on-failure", "never"].flatMap((policy) =>
        (["exit 0", "exit 3", "kill -9 $$"] as const).map((script, index) => ({
          id: `${policy}-${index}`,
          policy,
          script,
        })),
      );
      await Promise.all(
        cases.map(async ({ id, policy, script }) => {
          const job = await node.begin(id, program(script, { ...QUICK, policy, maxRestarts: 2 }));
          const well = script === "exit 0" && policy !== "always";
          if (well) assert.equal(job.status, "succeeded", `${id}: ${JSON.stringify(job.error)}`);
          const ended = await node.comesTo(id, well ? "stopped" : "failed");
          assert.equal(ended.desired, "running", `${id}: that is what was asked`);
          assert.equal(node.lines(id, "starts").length, policy === "never" || well ? 1 : 3, id);
          assert.equal(ended.restarts, policy === "never" || well ? 0 : 2, id);
          assert.deepEqual(
            [ended.lastExit?.code, ended.lastExit?.signal],
            script === "exit 0" ? [0, null] : script === "exit 3" ? [3, null] : [null, "SIGKILL"],
            id,
          );
          assert.deepEqual([ended.pid, ended.health, ended.healthySince], [null, well ? null : "missing", null], id);
        }),
      );
      // None of them is started any more.
      await node.cluster.run({ command: "node.ping", target: "n1" });
      for (const { id, policy } of cases) {
        const { state } = await node.stitch(id);
        assert.equal(state, id.endsWith("-0") && policy !== "always" ? "stopped" : "failed", id);
      }
    }),
  );

  it(
    "a crash loop ends as failed, with the reason in the log and the event; a start tries again",
    onNode(async (node) => {
      await node.begin("loops", speaker("crash", { restart: { ...QUICK, maxRestarts: 3 } }));
      await node.comesTo("loops", "failed");
      const reason = /a crash loop: it was restarted 3 times and never ran for 60000 ms/;
      const log = await node.says("loops", reason);
      assert.match(log, /it exited with code 3; starting it again in \d+ ms \(restart 1 of 3\)/);
      assert.match(log, /failed: it exited with code 3; a crash loop/);
      const events = await until("the last event", async () => {
        const told = await node.told("loops", "stitch.failed");
        return told.length >= 4 && told;
      });
      assert.deepEqual(
        events.map(({ lastExit, restartInMs }) => [lastExit, typeof restartInMs]),
        ["number", "number", "number", "undefined"].map((type) => [{ code: 3, signal: null }, type]),
      );
      assert.match(String(events.at(-1)?.["reason"]), reason);
      assert.equal(node.lines("loops", "began").length, 4);

      const failed = await node.command("start", "loops");
      assert.equal(stepOf(failed).error?.code, "exited_early");
      await until("it has been tried anew", () => node.lines("loops", "began").length === 8);
      await node.comesTo("loops", "failed");
      rmSync(node.file("loops", "crash"));
      assert.equal((await node.command("start", "loops")).status, "succeeded");
      const { state, restarts } = await node.stitch("loops");
      assert.deepEqual([state, restarts], ["running", 0]);
    }),
  );

  it(
    "a run that was stable resets the count of restarts",
    onNode(async (node) => {
      const once = "[ -e again ] || { : > again; exit 3; }; exec sleep 600";
      await node.begin("mends", program(once, { ...QUICK, windowMs: 1000 }));
      await node.says("mends", /restart 1 of 5/);
      const stable = await until("it is stable", async () => {
        const stitch = await node.stitch("mends");
        return stitch.state === "running" && stitch.restarts === 0 && stitch.lastExit !== null ? stitch : null;
      });
      process.kill(stable.pid ?? assert.fail(), "SIGKILL");
      await until("it was restarted once more", () => node.lines("mends", "starts").length === 3);
      const log = await node.says("mends", /SIGKILL/);
      assert.equal(log.match(/restart 1 of 5/g)?.length, 2);
      assert.doesNotMatch(log, /restart 2 of 5/);
    }),
  );

  it(
    "the wait for a restart is shown; a stop ends the wait, and a start skips it",
    onNode(async (node) => {
      const restart = { backoffMs: 600_000, maxBackoffMs: 600_000 };
      const job = await node.begin("waits", speaker("crash", { restart }));
      assert.equal(job.error?.code, "exited_early");
      const waiting = await node.stitch("waits");
      assert.deepEqual([waiting.state, waiting.desired, waiting.restarts], ["backoff", "running", 1]);
      const event = await until("its event", async () => (await node.told("waits", "stitch.failed"))[0]);
      const inMs = Number(event["restartInMs"]);
      assert.ok(inMs >= 450_000 && inMs <= 600_000, `${inMs}`);
      const stopped = await node.command("stop", "waits");
      assert.deepEqual([stopped.status, stepOf(stopped).changed], ["succeeded", true]);
      const { state, desired } = await node.stitch("waits");
      assert.deepEqual([state, desired], ["stopped", "stopped"]);

      assert.equal((await node.command("start", "waits")).status, "failed");
      assert.equal((await node.stitch("waits")).state, "backoff");
      rmSync(node.file("waits", "crash"));
      assert.equal((await node.command("start", "waits")).status, "succeeded");
      assert.equal((await node.stitch("waits")).restarts, 0);
      assert.equal(node.lines("waits", "began").length, 3);
    }),
  );

  it(
    "a stitch that cannot be started is under its policy, like one that ends",
    onNode(async (node) => {
      const cwd = join(node.cluster.dir, "later");
      const job = await node.begin("later", program("exec sleep 600", { ...QUICK, maxRestarts: 10_000 }, { cwd }));
      assert.equal(job.error?.code, "spawn_failed");
      await until("it is tried again and again", async () => (await node.stitch("later")).restarts > 2);
      mkdirSync(cwd);
      const runs = await node.comesTo("later", "running");
      assert.ok(runs.pid !== null && isRunning(runs.pid));
      await node.says("later", /later does not exist on n1[^]*it could not be started; starting it again in/);

      const missing = { command: ["/no/such/program"] };
      await node.begin("gives-up", program("", { ...QUICK, maxRestarts: 2 }, missing));
      const failed = await node.comesTo("gives-up", "failed");
      assert.deepEqual([failed.restarts, failed.lastExit, failed.pid], [2, null, null]);
      await until("its last event says why", async () =>
        /a crash loop/.test(String((await node.told("gives-up", "stitch.failed")).at(-1)?.["reason"])),
      );
      assert.equal((await node.begin("never", program("", { policy: "never" }, missing))).error?.code, "spawn_failed");
      assert.equal((await node.stitch("never")).state, "failed");
    }),
  );
});

describe("the start of a stitch", { concurrency: 2 }, () => {
  it(
    "that is too slow: start_timeout, then the policy applies; the stitch runs with its first answer",
    onNode(async (node) => {
      const job = await node.begin("late", speaker("quiet", { restart: QUICK }), { timeoutMs: 300 });
      assert.deepEqual([job.status, job.error?.code], ["failed", "start_timeout"]);
      assert.match(job.error?.message ?? "", /not up after 300 ms/);
      const starting = await node.stitch("late");
      assert.deepEqual([starting.state, starting.health], ["starting", "missing"]);
      await until("it has begun", () => node.lines("late", "began").length === 1);
      process.kill(starting.pid ?? assert.fail(), "SIGKILL");
      const again = await until("its policy has started it again", async () => {
        const stitch = await node.stitch("late");
        return stitch.state === "starting" && stitch.pid !== null && stitch.pid !== starting.pid ? stitch : null;
      });
      await until("it has begun again", () => node.lines("late", "began").length === 2);
      rmSync(node.file("late", "quiet"));
      const runs = await node.comesTo("late", "running");
      assert.equal(runs.pid, again.pid);
      const recorded = await node.cluster.master.commands.job(job.id, 0);
      assert.equal(recorded.status, "failed", "what was told stays as it was told");
      assert.equal(stepOf(await node.command("start", "late")).changed, false);
    }),
  );

  it(
    "that ends in an exit: exited_early, with the beginning and the end of its standard error",
    onNode(async (node) => {
      const noisy = ["sh", "-c", "i=0; while [ $i -lt 100 ]; do i=$((i+1)); echo line $i >&2; done; exit 4"];
      const job = await node.begin("early", speaker("", { command: noisy, restart: { policy: "never" } }));
      assert.equal(job.error?.code, "exited_early");
      assert.equal(stepOf(job).changed, true, "it is there");
      assert.match(
        job.error?.message ?? "",
        /it exited with code 4 before it answered a heartbeat; .*"protocol": "none"$/,
      );
      assert.match(job.error?.stderrTail ?? "", /^line 1\nline 2\n[^]*… 80 lines left out\n[^]*line 99\nline 100$/);
      // As Node prints an error: the line that says why, then a long stack, then the cause with its own stack.
      const why =
        "throw new Error('no port is set', { cause: new AggregateError([1, 2, 3].map(() => new Error('x'))) })";
      const script = `const f = (n) => { if (n === 0) ${why}; f(n - 1); }; f(20)`;
      const thrower = speaker("", { command: [process.execPath, "-e", script], restart: { policy: "never" } });
      const thrown = await node.begin("thrown", thrower);
      assert.match(thrown.error?.stderrTail ?? "", /Error: no port is set[^]*lines left out[^]*Node\.js v/);
      const quiet = ["sh", "-c", "kill -9 $$"];
      const killed = await node.begin("killed", speaker("", { command: quiet, restart: { policy: "never" } }));
      assert.match(killed.error?.message ?? "", /it exited by SIGKILL/);
      assert.equal(killed.error?.stderrTail, undefined);
    }),
  );

  it(
    "of a program that runs to its end: success unless the policy is always; with process-v1 a failure",
    onNode(async (node) => {
      for (const policy of ["on-failure", "never"]) {
        const job = await node.begin(`done-${policy}`, program("exit 0", { policy }));
        assert.deepEqual([job.status, stepOf(job).changed], ["succeeded", true]);
        const { state, desired, lastExit } = await node.comesTo(`done-${policy}`, "stopped");
        assert.deepEqual([state, desired, lastExit?.code], ["stopped", "running", 0]);
        const again = await node.command("start", `done-${policy}`);
        assert.equal(again.status, "succeeded");
        await until("a command starts it again", () => node.lines(`done-${policy}`, "starts").length === 2);
      }
      const speaks = await node.begin("speaks", speaker("", { command: ["true"], restart: { policy: "never" } }));
      assert.equal(speaks.error?.code, "exited_early");
    }),
  );

  it(
    "that still waits when a newer command comes: the newer one takes over, the older one is superseded",
    onNode(async (node) => {
      const cluster = node.cluster;
      for (const command of ["stop", "restart"] as const) {
        const older = await cluster.run(
          {
            command: "stitch.create",
            target: "test.stitch.1",
            node: "n1",
            id: command,
            spec: speaker("quiet"),
            timeoutMs: 600_000,
          },
          null,
          0,
        );
        await node.comesTo(command, "starting");
        await until("it reads its input", () => node.lines(command, "began").length === 1);
        // It is shown as starting before its process is there.
        const pid = await until("its pid is shown", async () => (await node.stitch(command)).pid);
        if (command === "restart") {
          const newer = await node.command("restart", command, 0);
          await until("the second start", () => node.lines(command, "began").length === 2);
          rmSync(node.file(command, "quiet"));
          assert.equal((await cluster.master.commands.job(newer.id, 60_000)).status, "succeeded");
        } else assert.equal((await node.command("stop", command)).status, "succeeded");
        assert.ok(!isRunning(pid));
        const ended = await cluster.master.commands.job(older.id, 60_000);
        assert.deepEqual([ended.status, stepOf(ended).status], ["failed", "superseded"]);
        assert.equal(stepOf(ended).error?.code, "superseded");
        assert.equal(stepOf(ended).changed, true, "what it made is there, whatever that does by now");
        assert.equal((await node.stitch(command)).state, command === "stop" ? "stopped" : "running");
      }
    }),
  );
});

describe("a stitch that is stopped", { concurrency: 2 }, () => {
  it(
    "gets _exit, then SIGTERM, then SIGKILL, each only if it did not obey the one before",
    onNode(async (node) => {
      const cases = [
        { id: "heeds", flags: "", got: ["_exit"], exit: [0, null] },
        { id: "deaf", flags: "deaf", got: ["_exit", "SIGTERM"], exit: [5, null] },
        { id: "stubborn", flags: "deaf stubborn", got: ["_exit", "SIGTERM"], exit: [null, "SIGKILL"] },
      ] as const;
      await Promise.all(
        cases.map(async ({ id, flags, got, exit }) => {
          // Where the next signal must not come, the grace is long enough for a busy machine.
          const stopGraceMs = flags.includes("stubborn") ? 2000 : flags === "" ? 60_000 : 3000;
          const created = await node.begin(id, speaker(flags, { stopGraceMs }));
          assert.equal(created.status, "succeeded", JSON.stringify(created.error));
          const { pid } = await node.stitch(id);
          const stopped = await node.command("stop", id);
          assert.equal(stopped.status, "succeeded", id);
          assert.ok(pid !== null && !isRunning(pid));
          assert.deepEqual(node.lines(id, "got"), got);
          const { state, lastExit } = await node.stitch(id);
          assert.deepEqual([state, lastExit?.code, lastExit?.signal], ["stopped", ...exit]);
        }),
      );
    }),
  );

  it(
    "ends with its whole process group, which gets the same grace as the leader",
    onNode(async (node) => {
      const child =
        "trap 'echo SIGTERM >> child; sleep 0.3; echo done >> child; exit' TERM; : > ready; while :; do sleep 0.05; done";
      // The leader exits at once, as npm and other wrappers do.
      const leader = `sh -c "${child}" & trap 'exit 0' TERM; while :; do sleep 0.05; done`;
      await node.begin("wrapped", program(leader, {}, { stopGraceMs: 60_000 }));
      await until("its child is ready", () => existsSync(node.file("wrapped", "ready")));
      assert.equal((await node.command("stop", "wrapped")).status, "succeeded");
      assert.deepEqual(node.lines("wrapped", "child"), ["SIGTERM", "done"]);

      const stubborn = "trap '' TERM; echo $$ > child; while :; do sleep 0.05; done";
      const speaks = SPEAKER[2] ?? "";
      const command = ["sh", "-c", `sh -c "${stubborn.replaceAll("$", "\\$")}" & ${speaks}`];
      await node.begin("family", speaker("", { command, stopGraceMs: 5000 }));
      await until("its child lives", () => node.lines("family", "child").length === 1);
      const pid = Number(node.lines("family", "child")[0]);
      assert.ok(isRunning(pid));
      assert.equal((await node.command("stop", "family")).status, "succeeded");
      assert.deepEqual([node.lines("family", "got"), isRunning(pid)], [["_exit"], false]);
    }),
  );

  it(
    "ends with all that it has started, even outside its group, also if it exits itself; the log says so",
    onNode(async (node) => {
      const runaway = "setsid sleep 600 & echo $! > runaway; sleep 600 & echo $! > child";
      await node.begin("stops", program(`${runaway}; wait`));
      await node.begin(
        "ends",
        program(`${runaway}; until [ -e end ]; do sleep 0.05; done; exit 3`, { policy: "never" }),
      );
      for (const id of ["stops", "ends"]) {
        await until(`${id} has its children`, () => node.lines(id, "child").length === 1);
        const [away, child] = ["runaway", "child"].map((name) => Number(node.lines(id, name)[0]));
        assert.ok(away !== undefined && child !== undefined && isRunning(away) && isRunning(child));
        await until(
          `${away} has left its group`,
          async () => (await readProcesses())?.some(({ pid, group }) => pid === away && group === away) === true,
        );
        if (id === "stops") assert.equal((await node.command("stop", id)).status, "succeeded");
        else {
          writeFileSync(node.file(id, "end"), "");
          await node.comesTo(id, "failed");
        }
        // They were killed, and are gone once the process that inherited them has collected them.
        await until(`nothing is left of ${id}`, () => !isRunning(away) && !isRunning(child));
        await node.says(id, new RegExp(`had left its process group and were killed: ${away}$`, "m"));
      }
    }),
  );
});

describe("the health of a stitch", { concurrency: 2 }, () => {
  it(
    "is missing until it answers, then green; yellow and red when it falls silent; red and green again are events",
    onNode(async (node) => {
      const has = (health: string) =>
        until(`it is ${health}`, async () => (await node.stitch("s")).health === health || null);
      const created = node.begin("s", speaker("quiet", { heartbeatMs: 1500 }));
      assert.equal((await node.comesTo("s", "starting")).health, "missing");
      await until("it has begun", () => node.lines("s", "began").length === 1);
      rmSync(node.file("s", "quiet"));
      assert.equal((await created).status, "succeeded");
      await has("green");
      writeFileSync(node.file("s", "quiet"), "");
      await has("yellow");
      await has("red");
      assert.equal((await node.stitch("s")).state, "running", "health is not state");
      rmSync(node.file("s", "quiet"));
      await has("green");
      await until("both events", async () => (await node.told("s", "stitch.health")).length >= 2);
      const told = await node.told("s", "stitch.health");
      assert.deepEqual(
        told.slice(0, 2).map(({ health }) => health),
        ["red", "green"],
      );
      await node.command("stop", "s");
      assert.equal((await node.stitch("s")).health, null);
    }),
  );
});

describe("a worker that comes back", { concurrency: 2 }, () => {
  for (const signal of ["SIGTERM", "SIGKILL"] as const) {
    it(`starts again after ${signal} the stitches that should run, with their data, and no others`, async () => {
      await withCluster(url, {}, async (cluster) => {
        const worker = await cluster.node("n1");
        const node = new Node(cluster);
        const never = { policy: "never" };
        await Promise.all([
          node.begin("runs", program("echo kept >> data; exec sleep 600")),
          node.begin("speaks", speaker("")),
          node.begin("stopped", program("exec sleep 600")),
          node.begin("done", program("exit 0", never)),
          node.begin("broken", program("exit 3", never)),
          node.begin(
            "waits",
            program("[ -e mended ] && exec sleep 600; : > mended; exit 3", {
              backoffMs: 600_000,
              maxBackoffMs: 600_000,
            }),
          ),
        ]);
        await node.command("stop", "stopped");
        await Promise.all([
          node.comesTo("done", "stopped"),
          node.comesTo("broken", "failed"),
          node.comesTo("waits", "backoff"),
        ]);
        await startedTimes(cluster, 1, ["n1:runs"], "data");
        const toRun = ["runs", "speaks", "waits"];
        const before = await Promise.all(toRun.map(async (id) => (await node.stitch(id)).pid));
        assert.equal(await worker.kill(signal), signal === "SIGTERM" ? 0 : null);
        await cluster.node("n1");
        for (const [index, id] of toRun.entries())
          await until(`${id} runs again`, async () => {
            const { state, pid } = await node.stitch(id);
            return state === "running" && pid !== before[index];
          });
        await startedTimes(cluster, 2, ["n1:runs"], "data");
        assert.equal(node.lines("speaks", "began").length, 2);
        const asItWas = async () => {
          for (const [id, state] of [
            ["stopped", "stopped"],
            ["done", "stopped"],
            ["broken", "failed"],
          ] as const) {
            assert.equal((await node.stitch(id)).state, state, id);
            assert.equal(node.lines(id, "starts").length, 1, id);
          }
        };
        await asItWas();

        // A lease that ran out by itself: the node registers again, and the stitches that run go on.
        const { pid } = await node.stitch("runs");
        const { redis, keys } = cluster.open;
        const { incarnation } = await cluster.master.state.node("n1");
        await redis.hset(keys.nodeMeta("n1"), "leaseUntil", 1);
        await until(
          "it has registered again",
          async () => (await cluster.master.state.node("n1")).incarnation > incarnation,
        );
        assert.equal((await cluster.run({ command: "node.ping", target: "n1" })).status, "succeeded");
        assert.equal((await node.stitch("runs")).pid, pid);
        await asItWas();
      });
    });
  }

  it("finishes the start that it handed back when it left", async () => {
    await withCluster(url, {}, async (cluster) => {
      const worker = await cluster.node("n1");
      const node = new Node(cluster);
      const job = await cluster.run(
        { command: "stitch.create", target: "test.stitch.1", node: "n1", id: "s", spec: speaker("quiet") },
        null,
        0,
      );
      await until("it is starting", () => node.lines("s", "began").length === 1);
      assert.equal(await worker.kill("SIGTERM"), 0);
      assert.equal((await cluster.master.commands.job(job.id, 0)).finishedAt, null);
      rmSync(node.file("s", "quiet"));
      await cluster.node("n1");
      assert.equal((await cluster.master.commands.job(job.id, 60_000)).status, "succeeded");
      assert.equal(node.lines("s", "began").length, 2);
    });
  });
});

for (const redis of REDISES) {
  describe(`restart and clone on a ${redis.name}`, { concurrency: 2 }, () => {
    it("restart a stitch that runs, one that is stopped and one that failed; not_found for an unknown one", async () => {
      await withCluster(redis.url, {}, async (cluster) => {
        await Promise.all([cluster.node("n1"), cluster.node("n2")]);
        const node = new Node(cluster);
        await cluster.create("n1", "a", ["sleep", "600"]);
        const before = await node.stitch("a");
        const job = await node.command("restart", "n1:a");
        assert.deepEqual([job.status, stepOf(job).action, stepOf(job).changed], ["succeeded", "restart", true]);
        assert.deepEqual(job.stitches, ["n1:a"]);
        const after = await node.stitch("a");
        assert.ok(before.pid !== null && !isRunning(before.pid));
        assert.ok(after.pid !== null && after.pid !== before.pid && isRunning(after.pid));
        assert.deepEqual(
          [after.state, after.revision, after.lastExit?.signal],
          ["running", `${job.revision}.0`, "SIGTERM"],
        );
        await node.command("stop", "a");
        assert.equal((await node.command("restart", "a")).status, "succeeded");
        assert.deepEqual([(await node.stitch("a")).state, (await node.stitch("a")).desired], ["running", "running"]);
        await node.begin("broken", speaker("crash", { restart: { policy: "never" } }));
        for (const command of ["restart", "start"] as const) {
          const { error, changed } = stepOf(await node.command(command, "broken"));
          assert.deepEqual([error?.code, changed], ["exited_early", true], command);
        }
        rmSync(node.file("broken", "crash"));
        assert.equal((await node.command("restart", "broken")).status, "succeeded");

        await cluster.create("n2", "a", ["sleep", "600"]);
        await assert.rejects(node.command("restart", "a"), (error: RequestError) => {
          assert.deepEqual([error.code, error.facts["candidates"]], ["ambiguous_stitch", ["n1:a", "n2:a"]]);
          return true;
        });
        for (const target of ["nobody", "n1:nobody", "n9:a"])
          await assert.rejects(node.command("restart", target), withCode("not_found"));
      });
    });

    it("clone a stitch with the same group and spec and its own data, spread or on the named node", async () => {
      await withCluster(redis.url, {}, async (cluster) => {
        await Promise.all([cluster.node("n1"), cluster.node("n2")]);
        const node = new Node(cluster);
        const clone = (target: string, more: Record<string, unknown> = {}) =>
          cluster.run({ command: "stitch.clone", target, ...more });
        const spec = program("exec sleep 600", QUICK, { env: { COLOUR: "red" }, stopGraceMs: 1234, reschedule: true });
        await node.begin("first", spec);
        const job = await clone("first");
        assert.deepEqual([job.status, job.stitches], ["succeeded", ["n2:stitch-1"]], JSON.stringify(job.error));
        const [source, copy] = await Promise.all([node.stitch("first"), node.stitch("stitch-1")]);
        assert.deepEqual([copy.spec, copy.group, copy.state], [source.spec, source.group, "running"]);
        assert.ok(copy.pid !== null && copy.pid !== source.pid && isRunning(copy.pid));
        assert.equal((await cluster.master.state.group("test.stitch.1")).stitches.byState.running, 2);

        assert.deepEqual((await clone("n1:first", { toNode: "n1" })).stitches, ["n1:stitch-2"]);
        await startedTimes(cluster, 1, ["n1:first", "n1:stitch-2"]);
        await node.command("stop", "first");
        assert.equal((await clone("first", { toNode: "n1" })).status, "succeeded");
        assert.equal((await node.stitch("stitch-3")).state, "running", "also where its source is stopped");

        await cluster.run({ command: "node.cordon", target: "n2" });
        assert.deepEqual((await clone("first")).stitches, ["n1:stitch-4"], "not on the cordoned one");
        const refused = (code: string) => (error: RequestError) => {
          assert.equal(error.code, "placement_failed");
          assert.deepEqual(error.facts["refusals"], [
            { ...(error.facts["refusals"] as object[])[0], node: "n2", code },
          ]);
          return true;
        };
        await assert.rejects(clone("first", { toNode: "n2" }), refused("cordoned"));
        await assert.rejects(clone("first", { toNode: "n9" }), withCode("not_found"));
        for (const target of ["nobody", "n1:nobody", "n9:first"])
          await assert.rejects(clone(target), withCode("not_found"));
        await cluster.run({ command: "node.uncordon", target: "n2" });

        await cluster.create("n2", "first", ["sleep", "600"]);
        await assert.rejects(clone("first"), withCode("ambiguous_stitch"));
        const dry = await cluster.master.commands.submit({
          command: COMMANDS["stitch.clone"].schema.parse({
            command: "stitch.clone",
            target: "n1:first",
            toNode: "n2",
            dryRun: true,
          }),
          idempotencyKey: null,
          scope: "",
          by: null,
          waitMs: 0,
        });
        assert.ok(dry.kind === "plan" && dry.plan.feasible && dry.plan.planToken !== null);
        const { planToken, placements } = dry.plan;
        assert.equal(
          (await cluster.master.state.stitches({ limit: 100, cursor: null }, { group: "test" })).items.length,
          6,
        );
        const planned = await clone("n1:first", { toNode: "n2", planToken });
        assert.deepEqual([planned.status, planned.stitches], ["succeeded", placements.map(({ stitch }) => stitch)]);
      });
    });

    it("fail the job of a clone that does not come up, and keep its stitch", async () => {
      await withCluster(redis.url, {}, async (cluster) => {
        await cluster.node("n1");
        const node = new Node(cluster);
        // Each stitch crashes until the file `crash` in its own folder is deleted.
        await node.begin("first", speaker("crash", { restart: { policy: "never" } }));
        rmSync(node.file("first", "crash"));
        assert.equal((await node.command("start", "first")).status, "succeeded");
        const job = await cluster.run({ command: "stitch.clone", target: "first" });
        assert.deepEqual([job.status, job.error?.code, job.stitches], ["failed", "exited_early", ["n1:stitch-1"]]);
        assert.equal((await node.stitch("stitch-1")).state, "failed");
        assert.equal((await node.stitch("first")).state, "running");
      });
    });
  });
}
