import assert from "node:assert/strict";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, it } from "node:test";
import { startLocalRedis } from "../../src/cli/processes/local-redis.ts";
import type { JobRecord, Task } from "../../src/domain/job/job.ts";
import { OUTCOME_LOST_MS } from "../../src/domain/job/send-again.ts";
import { Dispatcher } from "../../src/queue/dispatcher.ts";
import { indexOpenJob } from "../../src/redis/job/job-index.ts";
import { loadJob } from "../../src/redis/job/job-record.ts";
import { createJob } from "../../src/redis/job/drafts.ts";
import { claim, recordOutcomes } from "../../src/redis/job/outcomes.ts";
import { openNodePorts } from "../../src/master/node-ports.ts";
import { TaskRunner } from "../../workers/node/tasks/task-runner.ts";
import { REDISES, type TestCluster, until, withCluster } from "../support/cluster.ts";
import { pingJob, SUCCEEDED } from "../support/ping-job.ts";
import { registerTestNode } from "../support/register-test-node.ts";

const [standalone] = REDISES;
const url = standalone?.url ?? "";
/** The fields that n1 has written beside a job and that begin with `prefix`. */
async function fieldsOf({ open: { redis, keys } }: TestCluster, job: string, prefix: string): Promise<string[]> {
  return (await redis.hkeys(keys.jobOutcomes(job, "n1"))).filter((field) => field.startsWith(prefix)).sort();
}

/** A job that pings n1. Only this test writes its record. */
async function recordedPing(cluster: TestCluster): Promise<{ record: JobRecord; task: Task }> {
  const { redis, keys } = cluster.open;
  const record = await pingJob(cluster.open, `j${"d".repeat(26)}`);
  await createJob(redis, keys, record, "");
  return { record, task: record.tasks[0] ?? assert.fail() };
}

type Runs = ConstructorParameters<typeof TaskRunner>[0];

/** Carries out the tasks of n1, as its first incarnation. */
function taskRunner(
  { open: { redis, keys } }: TestCluster,
  { apply, ...over }: Partial<Runs> & { apply?: Runs["host"]["apply"] },
): TaskRunner {
  const publisher = { flush: async () => true };
  return new TaskRunner({
    orders: openNodePorts({ redis, direct: redis, keys, node: "n1" }).orders,
    host: { apply } as Runs["host"],
    publisher: publisher as Runs["publisher"],
    // A ping does not go to the journal.
    journal: { find: () => undefined, take: () => assert.fail() },
    specs: { bring: async () => new Map() },
    incarnation: () => 1,
    holdsId: () => true,
    learnEligibility: async () => undefined,
    nextBeat: async () => undefined,
    nowMs: Date.now,
    say: (message) => assert.fail(message),
    onError: (error) => assert.fail(String(error)),
    ...over,
  });
}

describe("a task that was claimed and is lost", { concurrency: 3 }, () => {
  it("P1: ends after its node was killed in mid-step and the node's queue was lost", async () => {
    await withCluster(url, {}, async (cluster) => {
      const first = await cluster.node("n1");
      await cluster.masterWorker();
      // A stop stays in the queue until it has ended; a start is in the node's own journal.
      const neverEnds = ["sh", "-c", "trap 'echo asked >> asks' TERM; while :; do sleep 0.1; done"];
      await cluster.create("n1", "slow", neverEnds, { stopGraceMs: 600_000 });
      const { id } = await cluster.run({ command: "stitch.stop", target: "slow" }, null, 0);
      const asks = join(cluster.dir, "state-n1", cluster.name, "n1", "data", "slow", "asks");
      await until("it was asked to end", () => existsSync(asks));
      await first.kill("SIGKILL");
      const { redis, keys } = cluster.open;
      assert.deepEqual(await fieldsOf(cluster, id, "c:"), ["c:t0.1.1"], "taken up");
      assert.deepEqual(await fieldsOf(cluster, id, "s:"), [], "and not told of");
      const queue = await redis.keys(`${keys.node("n1")}:commands*`);
      assert.ok(queue.length > 0);
      await redis.del(...queue);

      await cluster.node("n1");
      const job = await cluster.master.commands.job(id, 60_000);
      assert.deepEqual([job.status, job.tasks[0]?.attempt], ["succeeded", 2], JSON.stringify(job));
      assert.deepEqual(await fieldsOf(cluster, id, "c:"), ["c:t0.1.1", "c:t0.2.2"]);
      assert.equal((await cluster.master.state.stitch("slow")).state, "stopped");
    });
  });

  it("P1: ends after its outcome was lost, once the node has been silent for too long", async () => {
    await withCluster(url, {}, async (cluster) => {
      await cluster.node("n1");
      const { redis, keys } = cluster.open;
      const { record, task } = await recordedPing(cluster);
      const { id, revision, deadlineAtMs } = record;
      await new Dispatcher(redis, keys).dispatch([{ job: id, revision, deadlineAtMs, task }]);
      await until("the node has answered", async () => (await fieldsOf(cluster, id, "s:")).length === 1);
      // A failover loses the outcome; the claim and the deadline are longer ago than a Master waits.
      await redis.hdel(keys.jobOutcomes(id, "n1"), ...(await fieldsOf(cluster, id, "s:")));
      const agoMs = Date.now() - OUTCOME_LOST_MS - 1000;
      await redis.hset(keys.jobOutcomes(id, "n1"), "c:t0.1.1", agoMs);
      await redis.hset(keys.job(id), {
        deadlineAt: agoMs,
        record: JSON.stringify({ ...record, deadlineAtMs: agoMs }),
      });
      const waiting = await cluster.master.commands.job(id, 0);
      assert.deepEqual(
        [waiting.status, waiting.tasks[0]?.status],
        ["running", "running"],
        "reading sends nothing again",
      );

      await indexOpenJob(redis, keys, id, 1);
      await until("it is due, and sent again", async () => {
        await cluster.master.upkeep.sweep();
        return (await loadJob(redis, keys, id))?.attempts.get("t0") === 2;
      });
      const job = await cluster.master.commands.job(id, 30_000);
      assert.deepEqual([job.status, job.tasks[0]?.attempt], ["succeeded", 2], JSON.stringify(job));
      assert.deepEqual(await fieldsOf(cluster, id, "s:"), ["s:t0.2.0"]);
    });
  });

  it("P6: once it was claimed, its next attempt is neither cancelled nor expired", async () => {
    await withCluster(url, {}, async (cluster) => {
      const { redis, keys } = cluster.open;
      await registerTestNode(redis, keys, "n1");
      const { record, task } = await recordedPing(cluster);
      const { id } = record;
      const claimAs = (attempt: number, incarnation: number) =>
        claim(redis, keys, id, "n1", { ...task, attempt }, incarnation);
      assert.equal(await claimAs(1, 1), "ok");
      await redis.hset(keys.job(id), { deadlineAt: 1, cancelledAt: 1 });
      assert.equal(await claimAs(2, 2), "attempt", "it has not been raised");
      await redis.hset(keys.job(id), "attempt:t0", 2);
      assert.equal(await claimAs(1, 2), "attempt");
      assert.equal(await claimAs(2, 2), "ok");
      assert.equal((await loadJob(redis, keys, id))?.attempts.get("t0"), 2);
      const { tasks } = await cluster.master.commands.job(id, 0);
      assert.deepEqual([tasks[0]?.status, tasks[0]?.attempt], ["running", 2]);
    });
  });
});

for (const redis of REDISES) {
  describe(`outcomes are fenced on a ${redis.name}`, { concurrency: 2 }, () => {
    it("P12: a late outcome is refused if a later incarnation or a later attempt has claimed the task", async () => {
      await withCluster(redis.url, {}, async (cluster) => {
        const { redis: client, keys } = cluster.open;
        const { record, task } = await recordedPing(cluster);
        const { id } = record;
        const claimAs = async (attempt: number, incarnation: number) => {
          assert.equal(await claim(client, keys, id, "n1", { ...task, attempt }, incarnation), "ok");
        };
        const write = (attempt: number, incarnation: number, ended = false) =>
          recordOutcomes(client, keys, id, "n1", { ...task, attempt }, incarnation, new Map([[0, SUCCEEDED]]), ended);
        await claimAs(1, 1);
        await claimAs(1, 2);
        await claimAs(1, 1);
        assert.equal(await write(1, 1, true), false, "a later life has claimed the same attempt");
        assert.deepEqual(await fieldsOf(cluster, id, "s:"), []);
        await client.hset(keys.job(id), "attempt:t0", 2);
        await claimAs(2, 2);
        assert.equal(await write(1, 2), false, "the next attempt is taken up");
        assert.deepEqual(await fieldsOf(cluster, id, "s:"), []);
        assert.equal(await write(2, 2), true);
        assert.equal(await write(2, 2, true), true, "again: the first stays");
        assert.deepEqual(await fieldsOf(cluster, id, "s:"), ["s:t0.2.0"]);
      });
    });
  });
}

it("P5: a worker whose outcome Redis refuses writes it again, and does not repeat the step", async () => {
  const dir = mkdtempSync(join(tmpdir(), "cs-refused-"));
  const local = await startLocalRedis({ dir, port: 0 });
  try {
    await withCluster(local.url, {}, async (cluster) => {
      const { redis, keys } = cluster.open;
      const record = await pingJob(cluster.open, `j${"d".repeat(26)}`);
      const [ping = assert.fail()] = record.tasks;
      const task: Task = { ...ping, steps: [{ action: "stop", stitch: "n1:a", timeoutMs: 1000 }] };
      await createJob(redis, keys, { ...record, tasks: [task] }, "");
      let [times, beats] = [0, 0];
      const runner = taskRunner(cluster, {
        apply: async () => {
          times += 1;
          await redis.config("SET", "min-replicas-to-write", "1");
          return SUCCEEDED;
        },
        nextBeat: async () => {
          beats += 1;
          if (beats === 3) await redis.config("SET", "min-replicas-to-write", "0");
        },
      });
      await runner.run({ job: record.id, revision: record.revision, deadlineAtMs: record.deadlineAtMs, task });
      assert.deepEqual([times, beats], [1, 3]);
      assert.deepEqual(await fieldsOf(cluster, record.id, "s:"), ["s:t0.1.0"]);
    });
  } finally {
    await local.stop();
    rmSync(dir, { recursive: true, force: true });
  }
});

it("P12: a worker drops the outcome of a task that a later incarnation has claimed, and says so once", async () => {
  await withCluster(url, {}, async (cluster) => {
    const { redis, keys } = cluster.open;
    const { record, task } = await recordedPing(cluster);
    const said: string[] = [];
    // The worker claims the task, and may not write the outcome at once; meanwhile a later incarnation claims the task.
    const holdsId = [true, false, true];
    const runner = taskRunner(cluster, {
      holdsId: () => holdsId.shift() ?? true,
      nextBeat: async () => {
        assert.equal(await claim(redis, keys, record.id, "n1", task, 2), "ok");
      },
      say: (message) => said.push(message),
    });
    await runner.run({ job: record.id, revision: record.revision, deadlineAtMs: record.deadlineAtMs, task });
    assert.deepEqual(await fieldsOf(cluster, record.id, "c:"), ["c:t0.1.1", "c:t0.1.2"]);
    assert.deepEqual(await fieldsOf(cluster, record.id, "s:"), []);
    assert.equal(said.length, 1);
    assert.match(said[0] ?? "", /t0 of j.* was taken up again since/);
  });
});
