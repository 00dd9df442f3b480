import assert from "node:assert/strict";
import { existsSync, statSync } from "node:fs";
import { join } from "node:path";
import { describe, it } from "node:test";
import { dispatchId } from "../../src/domain/job/job.ts";
import { FAST, REDISES, type TestCluster, until, withCluster } from "../support/cluster.ts";
import { openCuttingProxy } from "../support/cutting-proxy.ts";
import { processesOf } from "../support/process-list.ts";
import { dataDirOf, linesOf, startedTimes } from "../support/stitch-folder.ts";
import { ANSWERS } from "../support/stitch-programs.ts";

const url = REDISES[0]?.url ?? "";

/** Far more than the tasks or steps that a node runs at once. */
const MANY = 200;
const ANSWER_MS = 2000;
/** So long that nothing in a test reaches this timeout. */
const TIMEOUT_MS = 120_000;

/** Starts, and never answers a heartbeat. */
const HANGS = {
  adaptor: "process",
  protocol: "process-v1",
  command: ["sh", "-c", "exec sleep 600"],
  stopGraceMs: 100,
} as const;
const create = (id: string, spec: object = HANGS, timeoutMs = TIMEOUT_MS) =>
  ({ command: "stitch.create", target: "test.hangs.1", node: "n1", id, spec, timeoutMs }) as const;

/** How many processes of hanging stitches there are. */
const hanging = async (cluster: TestCluster): Promise<number> =>
  (await processesOf(join(cluster.dir, "state-n1"))).filter((line) => line.includes("sleep 600")).length;

const known = async (cluster: TestCluster): Promise<number> =>
  (await cluster.master.state.stitches({ limit: 1000, cursor: null }, { group: "test.hangs.1" })).items.length;

/** Runs a command that must not wait for the hanging starts. */
async function atOnce(cluster: TestCluster, body: Parameters<TestCluster["run"]>[0]): Promise<void> {
  const fromMs = performance.now();
  const { status } = await cluster.run(body, null, TIMEOUT_MS);
  const tookMs = performance.now() - fromMs;
  assert.equal(status, "succeeded");
  assert.ok(tookMs < ANSWER_MS, `${body.command} took ${Math.round(tookMs)} ms`);
}

/** Is BullMQ done with the one task of a job? */
const isOutOfQueue = async ({ open }: TestCluster, job: string): Promise<boolean> => {
  const entry = `${open.keys.node("n1")}:commands:${dispatchId(job, { id: "t0", attempt: 1 })}`;
  return (await open.redis.hget(entry, "finishedOn")) !== null;
};

describe("a node on which starts hang", { concurrency: 2 }, () => {
  it(`beside ${MANY} hanging starts, answers and stops others at once, and ends the hanging ones on a stop`, async (t) => {
    await withCluster(url, {}, async (cluster) => {
      const node = await cluster.node("n1");
      await cluster.create("n1", "healthy", ["sleep", "600"]);
      const ids = Array.from({ length: MANY }, (_, index) => `h${index}`);
      const jobs = await Promise.all(ids.map((id) => cluster.run(create(id), null, 0)));
      await atOnce(cluster, { command: "node.ping", target: "n1" });
      await until("all are known", async () => (await known(cluster)) === MANY);
      await until("more hang than tasks are taken at once", async () => (await hanging(cluster)) > 64);
      await atOnce(cluster, { command: "node.ping", target: "n1" });
      await atOnce(cluster, { command: "stitch.stop", target: "healthy" });
      const stopAtMs = Date.now();
      const stopped = await cluster.run({ command: "group.stop", target: "test.hangs.1" }, null, TIMEOUT_MS / 2);
      assert.deepEqual([stopped.status, stopped.counts.succeeded], ["succeeded", MANY], JSON.stringify(stopped.counts));
      assert.equal(await hanging(cluster), 0);
      for (const { id } of jobs) {
        const [step] = (await cluster.master.commands.job(id, 1000)).tasks[0]?.steps ?? [];
        assert.deepEqual([step?.status, step?.changed], ["superseded", true]);
      }
      assert.equal(node.child.exitCode, null, node.output);
      // A stitch's data folder is created at its start. A start that a stop ends makes room for the next one at once.
      const folders = ids.map((id) => dataDirOf(cluster, "n1", id)).filter((dir) => existsSync(dir));
      const bornAtMs = folders.map((dir) => statSync(dir).birthtimeMs).sort((a, b) => a - b);
      const startedAtMs = bornAtMs.filter((atMs) => atMs < stopAtMs);
      const gaps = startedAtMs.slice(50).map((atMs, index) => atMs - (startedAtMs[index] ?? 0));
      t.diagnostic(
        `${startedAtMs.length} were started before the stop, ${folders.length} in all; 51 took at least ${Math.round(Math.min(...gaps))} ms`,
      );
      assert.ok(Math.min(...gaps) >= 900, "at most 50 begin within a second");
    });
  });

  it("starts all stitches of a task, although none ever comes up", async () => {
    const count = 120;
    await withCluster(url, {}, async (cluster) => {
      await cluster.node("n1");
      const { command, target, spec, timeoutMs } = create("");
      const job = await cluster.run({ command, target, node: "n1", count, spec, timeoutMs }, null, 0);
      await until("all of them hang", async () => (await hanging(cluster)) === count);
      assert.equal((await cluster.master.commands.job(job.id, 0)).counts.running, count);
    });
  });

  for (const signal of ["SIGKILL", "SIGTERM"] as const)
    it(`P1, P5, P15: ended by ${signal} after the starts left its queue, it carries each out once when back`, async () => {
      await withCluster(url, FAST, async (cluster) => {
        const first = await cluster.node("n1");
        const counts = "echo started >> starts;";
        // One half comes up when the worker starts them again.
        const comesUp = {
          ...HANGS,
          command: ["sh", "-c", `${counts} [ "$(wc -l < starts)" -gt 1 ] || exec sleep 600; ${ANSWERS[2]}`],
        };
        const hangs = { ...HANGS, command: ["sh", "-c", `${counts} exec sleep 600`] };
        const ids = Array.from({ length: 10 }, (_, index) => `s${index}`);
        const jobs = await Promise.all(
          // The hanging starts time out soon after the worker is back, and not before it ends.
          ids.map((id, index) => cluster.run(create(id, index < 5 ? comesUp : hangs, 12_000), null, 0)),
        );
        for (const { id } of jobs) await until("it is out of the queue", () => isOutOfQueue(cluster, id));
        await until("all of them hang", async () => (await hanging(cluster)) === ids.length);
        // The count would miss a process that is killed before it has counted itself.
        await startedTimes(
          cluster,
          1,
          ids.map((id) => `n1:${id}`),
        );
        await first.kill(signal);
        await cluster.node("n1");
        for (const [index, { id }] of jobs.entries()) {
          const { status, error, tasks } = await cluster.master.commands.job(id, TIMEOUT_MS);
          const expected = index < 5 ? ["succeeded", undefined] : ["failed", "start_timeout"];
          assert.deepEqual([status, tasks[0]?.steps[0]?.error?.code], expected, JSON.stringify(error));
        }
        await startedTimes(
          cluster,
          2,
          ids.map((id) => `n1:${id}`),
        );
        const inData = await processesOf(join(cluster.dir, "state-n1"));
        for (const id of ids)
          assert.equal(inData.filter((line) => line.endsWith(`/data/${id}]`)).length, 1, inData.join("\n"));
      });
    });

  for (const [when, isIt, passes] of [
    ["as it has claimed a start", isClaim, true],
    ["before BullMQ hears that it has taken a start over", isCompletion, false],
    ["as BullMQ has heard that it has taken a start over", isCompletion, true],
  ] as const)
    it(`P1, P5: killed with kill -9 ${when}, it carries out the start once when it is back`, async () => {
      await withCluster(url, FAST, async (cluster) => {
        const proxy = await openCuttingProxy(cluster.redisUrl);
        const first = await cluster.node("n1", { REDIS_URL: proxy.url });
        const cut = proxy.cut({ at: isIt, passes, kill: () => first.child.kill("SIGKILL") });
        const spec = { ...HANGS, command: ["sh", "-c", `echo started >> starts; ${ANSWERS[2]}`] };
        const { id } = await cluster.run(create("t", spec), null, 0);
        await first.exited;
        await cut;
        await proxy.close();
        await cluster.node("n1");
        const job = await cluster.master.commands.job(id, TIMEOUT_MS);
        assert.equal(job.status, "succeeded", JSON.stringify(job));
        assert.ok(linesOf(join(dataDirOf(cluster, "n1", "t"), "starts")).length <= 2);
        const running = (await processesOf(join(cluster.dir, "state-n1"))).filter((line) => line.endsWith("/data/t]"));
        assert.equal(running.length, 1, running.join("\n"));
      });
    });
});

/** Is this a claim? It is the first that a node writes beside a job. */
function isClaim(words: readonly string[]): boolean {
  return words.some((word) => word.endsWith(":out:n1"));
}

/** Does BullMQ write here that an entry of the node's queue has ended well? */
function isCompletion(words: readonly string[]): boolean {
  return words.some((word) => word.endsWith(":commands:completed"));
}
