// Processes whose clocks are wrong: the times that they write, and when something ends, still follow Redis's clock.
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { ApiUnreachable, createClient } from "../../src/client/client.ts";
import type { ListResource } from "../../src/contract/list.ts";
import type { JobResource } from "../../src/contract/job.ts";
import type { DeadLetterResource } from "../../src/contract/message.ts";
import { createInbox } from "../../src/redis/inbox/inbox.ts";
import { redisTimeMs } from "../../src/redis/node/node-record.ts";
import { leaveNode } from "../../src/redis/node/node-lease.ts";
import { REDISES, type TestCluster, until, withCluster } from "../support/cluster.ts";
import { openCuttingProxy } from "../support/cutting-proxy.ts";
import { registerTestNode } from "../support/register-test-node.ts";

const url = REDISES[0]?.url ?? "";
/** Shorter than a process would wait if it used a clock that is minutes off. */
const SOON_MS = 20_000;

/** The settings of a process whose clock is `ms` ahead. */
const ahead = (ms: number): Record<string, string> => {
  const code = `const { now } = Date; Date.now = () => now() + ${ms};`;
  return { NODE_OPTIONS: `--import=data:text/javascript,${encodeURIComponent(code)}` };
};

/** Asserts that each shown time lies between `sinceMs` and now, on Redis's clock. */
async function assertSince({ open: { redis, keys } }: TestCluster, sinceMs: number, ...shown: (string | null)[]) {
  const nowMs = await redisTimeMs(redis, keys.events);
  for (const text of shown) {
    const atMs = Date.parse(text ?? "");
    // Between two reads of Redis's clock, a process counts on with its own clock: rounding may take a millisecond.
    assert.ok(atMs >= sinceMs - 5 && atMs <= nowMs + 5, `${text} is not from ${sinceMs} to ${nowMs}`);
  }
}

for (const [how, aheadMs] of [
  ["ahead", 600_000],
  ["behind", -600_000],
] as const) {
  describe(`an API whose clock is ten minutes ${how}`, { concurrency: 2 }, () => {
    it("is killed before it dispatches a command: a master worker finishes the job within seconds", async () => {
      await withCluster(url, {}, async (cluster) => {
        const { redis, keys } = cluster.open;
        await cluster.node("n1");
        await cluster.masterWorker();
        const sinceMs = await redisTimeMs(redis, keys.events);
        const proxy = await openCuttingProxy(cluster.redisUrl);
        try {
          const api = await cluster.api({ REDIS_URL: proxy.url, ...ahead(aheadMs) });
          const cut = proxy.cut({
            at: (words) => words[4]?.startsWith('{"id":') === true,
            passes: true,
            kill: () => api.part.child.kill("SIGKILL"),
          });
          const body = { command: "node.ping", target: "n1", deadlineMs: 60_000 };
          await assert.rejects(createClient({ url: api.url }).command(body), ApiUnreachable);
          await cut;
        } finally {
          await proxy.close();
        }
        const isDone = ({ status }: JobResource) => status === "succeeded";
        const [job] = await until(
          "it is carried out",
          async () => {
            const { items } = await cluster.master.commands.jobs({ cursor: null, limit: 10 }, {});
            const done = await Promise.all(items.map(({ id }) => cluster.master.commands.job(id, 0)));
            return done.every(isDone) && done.length === 1 && done;
          },
          SOON_MS,
        );
        assert.ok(job !== undefined);
        await assertSince(cluster, sinceMs, job.createdAt);
        assert.equal(Date.parse(job.deadlineAt) - Date.parse(job.createdAt), 60_000);
      });
    });

    it("writes Redis's time for the steps that it runs itself and for dead letters", async () => {
      await withCluster(url, {}, async (cluster) => {
        const { redis, keys } = cluster.open;
        const session = await registerTestNode(redis, keys, "n1");
        await createInbox(redis, keys, "n1", session.incarnation);
        const api = await cluster.api(ahead(aheadMs));
        const sinceMs = await redisTimeMs(redis, keys.events);
        const cordon = { command: "node.cordon", target: "n1" };
        const { job } = await createClient({ url: api.url }).command(cordon, { waitMs: 5000 });
        const step = job.tasks[0]?.steps[0];
        await assertSince(cluster, sinceMs, step?.startedAt ?? null, step?.finishedAt ?? null);

        const message = { id: "m", from: "api:m", to: { stitch: "a" }, channel: "c", data: "1", ref: null, re: null };
        const body = JSON.stringify({ ...message, receipt: null, hops: 0, sentAtMs: null });
        await redis.xadd(keys.nodeInbox("n1"), "*", "message:a", body);
        await leaveNode(redis, keys, "n1", session);
        assert.equal((await fetch(`${api.url}/v1/nodes/n1`, { method: "DELETE" })).status, 204);
        const letters = (await (await fetch(`${api.url}/v1/dead-letters`)).json()) as ListResource<DeadLetterResource>;
        await assertSince(cluster, sinceMs, letters.items[0]?.at ?? null);
      });
    });
  });
}

for (const [how, aheadMs] of [
  ["ahead", 600_000],
  ["behind", -600_000],
] as const)
  it(`a node whose clock is ten minutes ${how} writes Redis's time for its stitches and steps`, async () => {
    await withCluster(url, {}, async (cluster) => {
      const { redis, keys } = cluster.open;
      const sinceMs = await redisTimeMs(redis, keys.events);
      await cluster.node("n1", ahead(aheadMs));
      const created = await cluster.create("n1", "a", ["sh", "-c", "echo said; exec sleep 600"]);
      const step = created.tasks[0]?.steps[0];
      const { startedAt, observedAt } = await cluster.master.state.stitch("n1:a");
      const { items: lines } = await until("its line is there", async () => {
        const logs = await cluster.master.state.logs("n1:a", 10);
        return logs.items.length > 0 && logs;
      });
      const node = await cluster.master.state.node("n1");
      await assertSince(
        cluster,
        sinceMs,
        step?.startedAt ?? null,
        step?.finishedAt ?? null,
        startedAt,
        observedAt,
        lines[0]?.at ?? null,
        node.startedAt,
        node.lastHeartbeatAt,
      );
      assert.equal((await cluster.run({ command: "stitch.remove", target: "n1:a" })).status, "succeeded");
      const left = JSON.parse((await redis.hget(keys.nodeRemoved("n1"), "a")) ?? "null") as { removedAtMs: number };
      await assertSince(cluster, sinceMs, new Date(left.removedAtMs).toISOString());
    });
  });
