import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, it } from "node:test";
import type { StitchResource } from "../../src/contract/stitch.ts";
import type { NodeResource } from "../../src/contract/node.ts";
import type { JobResource } from "../../src/contract/job.ts";
import { checkedFetch } from "../support/checked-fetch.ts";
import { type TestCluster, until, withCluster } from "../support/cluster.ts";
import { isRunning } from "../support/process-list.ts";
import { type LocalSentinel, startLocalSentinel } from "../support/redis-sentinel.ts";

/** Counted from when Sentinel names another Redis as the primary. */
const WORKS_AGAIN_MS = 30_000;

async function behindSentinel(work: (redis: LocalSentinel, cluster: TestCluster) => Promise<void>): Promise<void> {
  const dir = mkdtempSync(join(tmpdir(), "cs-sentinel-"));
  const redis = await startLocalSentinel(dir);
  try {
    await withCluster(redis.url, {}, (cluster) => work(redis, cluster));
  } finally {
    await redis.stop();
    rmSync(dir, { recursive: true, force: true });
  }
}

const read = async <T>(url: string): Promise<T | null> => {
  const response = await checkedFetch(url);
  const body = (await response.json()) as T;
  return response.ok ? body : null;
};

/** The job, once it has ended; null while it has not, or the API says "not now". Repeated calls have one key, so one job. */
async function ask(url: string, command: string, target: string): Promise<JobResource | null> {
  const response = await checkedFetch(`${url}/v1/commands?waitMs=5000`, {
    method: "POST",
    headers: { "Content-Type": "application/json", "Idempotency-Key": `${command} ${target}` },
    // The node may count as dead by now, because it could not send heartbeats either.
    body: JSON.stringify({ command, target, waitForNode: true }),
  });
  const body = (await response.json()) as JobResource & { code?: string };
  if (!response.ok) assert.equal(body.code, "redis_unavailable", JSON.stringify(body));
  return response.status === 200 ? body : null;
}

describe("behind Sentinel", { concurrency: 2 }, () => {
  for (const [how, signal] of [
    ["killed", "SIGKILL"],
    ["hung", "SIGSTOP"],
  ] as const) {
    it(`the primary is ${how}: the replica becomes the primary, and the same processes go on`, async () => {
      await behindSentinel(async (redis, cluster) => {
        const { url } = await cluster.api();
        await cluster.masterWorker();
        await cluster.node("n1");
        await cluster.create("n1", "a", ["sleep", "600"]);
        const before = await cluster.master.state.stitch("a");
        const events = await checkedFetch(`${url}/v1/events?type=job.ended`);
        await redis.inStep();

        redis.primary.kill(signal);
        await redis.failedOver();
        const failedOverAtMs = Date.now();

        const soon = <T>(what: string, look: () => Promise<T>) => until(what, look, WORKS_AGAIN_MS);
        const ping = await soon("a new command has ended", () => ask(url, "node.ping", "n1"));
        assert.equal(ping.status, "succeeded");
        await soon("the node beats again", async () => {
          const node = await read<NodeResource>(`${url}/v1/nodes/n1`);
          return node?.liveness === "alive" && Date.parse(node.lastHeartbeatAt) > failedOverAtMs;
        });
        const { redis: client, keys } = cluster.open;
        await soon("the master worker tends again", async () => {
          // The last member only keeps the list there.
          const seen = await client.zrange(keys.masters, "-2", "-2", "WITHSCORES").catch(() => []);
          return Number(seen[1]) > failedOverAtMs;
        });

        const after = await soon("the stitch can be read", () => read<StitchResource>(`${url}/v1/stitches/a`));
        assert.deepEqual([after.state, after.pid, after.restarts], ["running", before.pid, 0], "it never stopped");
        assert.ok(isRunning(before.pid ?? 0));
        const stop = await soon("a stop has ended", () => ask(url, "stitch.stop", "a"));
        assert.equal(stop.status, "succeeded");
        await soon("its state is published", async () => {
          const stopped = await read<StitchResource>(`${url}/v1/stitches/a`);
          return stopped?.state === "stopped";
        });

        // The reader from before the failover, still on its first connection to the API.
        let told = "";
        for await (const chunk of events.body ?? []) {
          told += Buffer.from(chunk).toString();
          if (told.includes(stop.id)) break;
        }
        assert.ok(told.includes(ping.id) && told.includes(stop.id), told);
      });
    });
  }
});
