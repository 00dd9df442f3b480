// A Master that is held up after it has reserved what a command needs, and before it has written the job's record.
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { COMMANDS } from "../../src/domain/commands/command.ts";
import type { CommandName } from "../../src/domain/commands/command-names.ts";
import { RequestError } from "../../src/domain/errors.ts";
import type { JobResource } from "../../src/contract/job.ts";
import type { Master } from "../../src/master/ports.ts";
import { claim } from "../../src/redis/job/outcomes.ts";
import { heldScopes } from "../support/held-scopes.ts";
import { REDISES, type TestCluster, until, withCluster } from "../support/cluster.ts";
import { registerTestNode } from "../support/register-test-node.ts";
import { openStallingProxy, type StallingProxy } from "../support/stalling-proxy.ts";
import { testJobService } from "../support/test-job-service.ts";

const url = REDISES[0]?.url ?? "";
const GROUP = "shop.orders.1";
const SPEC = { adaptor: "process", protocol: "none", command: ["sleep", "600"] };
const SCALE = { command: "group.scale", target: GROUP, count: 5 } as const;

async function submit(
  master: Master,
  body: { command: CommandName } & Record<string, unknown>,
  idempotencyKey: string | null = null,
): Promise<{ job: JobResource; replayed: boolean }> {
  const command = COMMANDS[body.command].schema.parse(body);
  const submitted = await master.commands.submit({ command, idempotencyKey, scope: "", by: null, waitMs: 0 });
  return submitted.kind === "job" ? submitted : assert.fail();
}

const isBusy = (error: unknown): boolean => error instanceof RequestError && error.code === "group_busy";

/** Is this the script that writes a job's record? Its words: EVAL or EVALSHA, script, how many keys, job, record, …. */
const writesRecord = (words: readonly string[]): boolean =>
  /^eval(sha)?$/i.test(words[0] ?? "") && words[4]?.startsWith('{"id":') === true;

/** Runs `work` with a second Master, whose next record is held up until `release`. */
async function withSlowMaster(
  cluster: TestCluster,
  work: (slow: Master, held: Promise<void>, proxy: StallingProxy) => Promise<void>,
): Promise<void> {
  const proxy = await openStallingProxy(cluster.redisUrl);
  const slow = await cluster.openMaster("slow", { redisUrl: proxy.url });
  try {
    await work(slow.master, proxy.stall(writesRecord), proxy);
  } finally {
    slow.close();
    await proxy.close();
  }
}

async function assertFive(cluster: TestCluster): Promise<void> {
  const { redis, keys } = cluster.open;
  assert.equal((await cluster.master.state.group(GROUP)).stitches.byState.running, 5);
  await until("nothing is held any more", async () => (await heldScopes(redis, keys)) === 0);
}

describe("a Master that is held up before it writes the job's record (P2)", { concurrency: 3 }, () => {
  for (const key of [null, "slow"]) {
    it(`${key === null ? "without" : "with"} a key: another Master may scale after 10 s; the slow one adds nothing`, async () => {
      await withCluster(url, {}, async (cluster) => {
        await cluster.node("n1");
        await cluster.run({ command: "stitch.create", target: GROUP, spec: SPEC });
        await withSlowMaster(cluster, async (slow, held, proxy) => {
          const late = submit(slow, SCALE, key).then(
            ({ job }) => job,
            (error: unknown) => (isBusy(error) ? null : Promise.reject(error)),
          );
          await held;
          const { job } = await until("the slow one is given up", () =>
            submit(cluster.master, SCALE).catch((error: unknown) => (isBusy(error) ? null : Promise.reject(error))),
          );
          proxy.release();
          const lateJob = await late;
          for (const each of [job, ...(lateJob === null ? [] : [lateJob])])
            assert.equal((await cluster.master.commands.job(each.id, 30_000)).status, "succeeded");
          await assertFive(cluster);
        });
      });
    });
  }

  it("a command that is sent again elsewhere with the same key is one job", async () => {
    await withCluster(url, {}, async (cluster) => {
      await cluster.node("n1");
      await cluster.run({ command: "stitch.create", target: GROUP, spec: SPEC });
      await withSlowMaster(cluster, async (slow, held, proxy) => {
        const late = submit(slow, SCALE, "same");
        await held;
        const { job } = await submit(cluster.master, SCALE, "same");
        proxy.release();
        assert.deepEqual([(await late).replayed, (await late).job.id], [true, job.id]);
        assert.equal((await cluster.master.commands.job(job.id, 30_000)).status, "succeeded");
        await assertFive(cluster);
      });
    });
  });

  it("for ten minutes, so that its pointer is dropped: the command becomes another job, which the sweep finds", async () => {
    await withCluster(url, {}, async (cluster) => {
      const { redis, keys } = cluster.open;
      let nowMs = 0;
      const jobService = testJobService(cluster, () => nowMs);
      await registerTestNode(redis, keys, "n1");
      await withSlowMaster(cluster, async (slow, held, proxy) => {
        const late = submit(slow, { command: "node.ping", target: "n1" });
        await held;
        const [first = ""] = await redis.zrange(keys.openJobs, 0, "-1");
        for (const atMs of [0, 601_000]) {
          nowMs = atMs;
          await redis.zadd(keys.openJobs, "XX", 0, first);
          await jobService.sweep();
        }
        assert.equal(await redis.zscore(keys.openJobs, first), null);
        proxy.release();
        const { job } = await late;
        assert.notEqual(await redis.zscore(keys.openJobs, job.id), null);
        const sent = { id: "t0", attempt: 1 };
        if (job.id !== first) assert.equal(await claim(redis, keys, first, "n1", sent, 1), "unknown");
        assert.equal(await claim(redis, keys, job.id, "n1", sent, 1), "ok");
      });
    });
  });
});
