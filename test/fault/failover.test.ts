// A failover to a replica that has not received the last writes: Redis loses what it had acknowledged (P1, P9).
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, it } from "node:test";
import type { StitchResource } from "../../src/contract/stitch.ts";
import type { NodeResource } from "../../src/contract/node.ts";
import type { JobResource } from "../../src/contract/job.ts";
import { type TestCluster, until, withCluster } from "../support/cluster.ts";
import { isRunning } from "../support/process-list.ts";
import { type LocalSentinel, startLocalSentinel } from "../support/redis-sentinel.ts";

/** Counted from when Sentinel says that another Redis is the primary. */
const WORKS_AGAIN_MS = 30_000;

async function behindSentinel(
  env: Record<string, string>,
  work: (redis: LocalSentinel, cluster: TestCluster) => Promise<void>,
): Promise<void> {
  const dir = mkdtempSync(join(tmpdir(), "cs-failover-"));
  const redis = await startLocalSentinel(dir);
  try {
    await withCluster(redis.url, env, (cluster) => work(redis, cluster));
  } finally {
    await redis.stop();
    rmSync(dir, { recursive: true, force: true });
  }
}

/** A cluster as a client of its API sees it. */
class Client {
  readonly #url: string;
  #asked = 0;

  constructor(url: string) {
    this.#url = url;
  }

  /** Returns the answer's status and body; fails if no answer comes in time: nothing may hang. */
  async #ask<T>(path: string, init: RequestInit = {}): Promise<{ status: number; body: T & { code?: string } }> {
    const response = await fetch(`${this.#url}${path}`, { ...init, signal: AbortSignal.timeout(20_000) });
    return { status: response.status, body: (await response.json()) as T & { code?: string } };
  }

  /** null if the API answers "not now", or that the resource does not exist. */
  async read<T>(path: string): Promise<T | null> {
    const { status, body } = await this.#ask<T>(path);
    return status === 200 ? body : null;
  }

  /** Repeats the command with one key until it is accepted and its job has ended; the failover may lose earlier tries. */
  async command(body: { command: string; target: string } & Record<string, unknown>): Promise<JobResource> {
    const key = `${this.#asked++}`;
    return until(
      `${body.command} ${body.target} has ended`,
      async () => {
        const { status, body: job } = await this.#ask<JobResource>("/v1/commands?waitMs=5000", {
          method: "POST",
          headers: { "Content-Type": "application/json", "Idempotency-Key": key },
          body: JSON.stringify({ waitForNode: true, ...body }),
        });
        if (status >= 400) assert.equal(job.code, "redis_unavailable", JSON.stringify(job));
        return status === 200 && job;
      },
      WORKS_AGAIN_MS,
    );
  }

  stitch = (id: string) => this.read<StitchResource>(`/v1/stitches/${id}`);

  async ids(): Promise<string[] | null> {
    const list = await this.read<{ items: StitchResource[] }>("/v1/stitches");
    return list?.items.map(({ id }) => id).sort() ?? null;
  }
}

const spec = { adaptor: "process", protocol: "none", command: ["sleep", "600"] };

describe("a failover that loses writes", { concurrency: 2 }, () => {
  for (const [when, heartbeatMs] of [
    ["between two heartbeats", 8000],
    ["over several heartbeats", 300],
  ] as const) {
    it(`${when}: the node publishes the lost changes again, and everything works on`, async () => {
      await behindSentinel({ STITCH_HEARTBEAT_MS: String(heartbeatMs) }, async (redis, cluster) => {
        const { url } = await cluster.api();
        await cluster.masterWorker();
        await cluster.node("n1");
        const client = new Client(url);
        const { redis: toRedis, keys } = cluster.open;
        const beats = async () => Number(await toRedis.hget(keys.nodeMeta("n1"), "beats"));
        const create = async (id: string) => {
          const job = await client.command({ command: "stitch.create", target: "shop.web.1", node: "n1", id, spec });
          assert.equal(job.status, "succeeded", JSON.stringify(job));
          return (await client.stitch(id))?.pid ?? assert.fail(`${id} does not run`);
        };
        const kept = await create("kept");
        const removed = await create("removed");
        const stopped = await create("stopped");

        // Begins just after a heartbeat, so that the next one comes after all of this.
        const beatsBefore = await beats();
        await until("the node has beaten", async () => (await beats()) > beatsBefore);
        const last = await beats();
        await redis.inStep();
        await redis.cutOffReplica();
        const created = await create("created");
        assert.equal((await client.command({ command: "stitch.remove", target: "removed" })).status, "succeeded");
        assert.equal((await client.command({ command: "stitch.stop", target: "stopped" })).status, "succeeded");
        if (heartbeatMs > 1000) assert.equal(await beats(), last, "there was no heartbeat meanwhile");
        else await until("the node has beaten meanwhile", async () => (await beats()) > last);
        redis.primary.kill("SIGKILL");
        await redis.failedOver();
        const failedOverAtMs = Date.now();

        const soon = <T>(what: string, look: () => Promise<T>) => until(what, look, WORKS_AGAIN_MS);
        await soon("the node beats again", async () => {
          const node = await client.read<NodeResource>("/v1/nodes/n1");
          return node?.liveness === "alive" && Date.parse(node.lastHeartbeatAt) > failedOverAtMs;
        });
        assert.equal((await client.command({ command: "node.ping", target: "n1" })).status, "succeeded");
        assert.deepEqual([kept, created].map(isRunning), [true, true], "what runs runs on");
        assert.deepEqual([removed, stopped].map(isRunning), [false, false]);
        assert.equal((await client.stitch("kept"))?.pid, kept);

        await soon("the cluster shows what there is", async () => {
          const ids = await client.ids();
          return ids?.join() === "created,kept,stopped";
        });
        const shown = await client.stitch("created");
        assert.deepEqual([shown?.state, shown?.pid, shown?.restarts], ["running", created, 0]);
        await soon("it shows that one was stopped", async () => (await client.stitch("stopped"))?.state === "stopped");
        for (const target of ["created", "kept"]) {
          const stop = await client.command({ command: "stitch.stop", target });
          assert.equal(stop.status, "succeeded", JSON.stringify(stop));
        }
        assert.deepEqual([kept, created].map(isRunning), [false, false]);
        // The id is free, and nothing is left of the former stitch.
        const again = await create("removed");
        assert.ok(isRunning(again) && again !== removed);
      });
    });
  }
});
