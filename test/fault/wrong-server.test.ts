// A failover behind one address: the old primary runs on as a replica, and nothing closes the connections to it (P1, P17).
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, it } from "node:test";
import { Redis } from "ioredis";
import { type LocalRedis, startLocalRedis } from "../../src/cli/processes/local-redis.ts";
import type { NodeResource } from "../../src/contract/node.ts";
import type { JobResource } from "../../src/contract/job.ts";
import { type ConnectionRole, connectRedis, openRedis } from "../../src/redis/connection/connection.ts";
import { ServerWatch } from "../../src/redis/connection/server-watch.ts";
import { until, withCluster } from "../support/cluster.ts";
import { isRunning } from "../support/process-list.ts";
import { type Proxy, startProxy } from "../support/proxy.ts";
import { FORMAT } from "../../src/redis/format.ts";

/** Counted from when the address leads to the new primary. */
const WORKS_AGAIN_MS = 10_000;

type Pair = {
  /** The one address of both. */
  readonly url: string;
  readonly proxy: Proxy;
  readonly old: Redis;
  readonly next: Redis;
  /** Makes the other the primary, with all that was written, and the old one its replica. The address leads where it did. */
  readonly failOver: () => Promise<void>;
  /** From now on the address leads to the new primary. */
  readonly switchOver: () => void;
};

const portOf = ({ url }: LocalRedis): number => Number(new URL(url).port);

async function withPair(work: (pair: Pair) => Promise<void>): Promise<void> {
  const dir = mkdtempSync(join(tmpdir(), "cs-pair-"));
  const servers = await Promise.all(["a", "b"].map((name) => startLocalRedis({ dir: join(dir, name), port: 0 })));
  const [oldPort = 0, nextPort = 0] = servers.map(portOf);
  const [old, next] = [oldPort, nextPort].map((port) => new Redis({ port })) as [Redis, Redis];
  const proxy = await startProxy(oldPort);
  try {
    await next.replicaof("127.0.0.1", oldPort);
    await until("the replica follows", async () => /state=online/.test(await old.info("replication")));
    await work({
      url: `redis://127.0.0.1:${proxy.port}`,
      proxy,
      old,
      next,
      failOver: async () => {
        // Writes wait until the roles have changed, as with FAILOVER: no write is acknowledged that the other server lacks.
        await old.client("PAUSE", 10_000, "WRITE");
        const offset = async (redis: Redis) =>
          /master_repl_offset:(\d+)/.exec(await redis.info("replication"))?.[1] ?? "";
        await until("the replica has all", async () => (await offset(old)) === (await offset(next)));
        await next.replicaof("NO", "ONE");
        await old.replicaof("127.0.0.1", nextPort);
        await old.client("UNPAUSE");
      },
      switchOver: () => proxy.lead(nextPort),
    });
  } finally {
    old.disconnect();
    next.disconnect();
    await proxy.stop();
    await Promise.all(servers.map((server) => server.stop()));
    rmSync(dir, { recursive: true, force: true });
  }
}

const succeeds = (work: Promise<unknown>): Promise<boolean> =>
  work.then(
    () => true,
    () => false,
  );

describe("a primary that has become a replica, and closes no connection", { concurrency: 2 }, () => {
  const WRITES: readonly (readonly [string, ConnectionRole, (redis: Redis) => Promise<unknown>])[] = [
    ["a command", "shared", (redis) => redis.set("written", 1)],
    ["a command by itself", "direct", (redis) => redis.set("written", 1)],
    ["a script", "shared", (redis) => redis.eval("return redis.call('SET', KEYS[1], 1)", 1, "written")],
    [
      "a pipeline",
      "direct",
      async (redis) => {
        for (const [error] of (await redis.pipeline().get("x").set("written", 1).exec()) ?? [])
          if (error !== null) throw error;
      },
    ],
    ["a transaction", "direct", (redis) => redis.multi().set("written", 1).exec()],
    ["a command of a blocking connection", "blocking", (redis) => redis.set("written", 1)],
  ];
  for (const [what, role, write] of WRITES) {
    it(`${what} finds the new primary, and so do the connections that only read`, async () => {
      await withPair(async ({ url, next, failOver, switchOver }) => {
        const watch = new ServerWatch();
        const open = (of: ConnectionRole): Redis => {
          const client = openRedis(url, of, () => undefined, {}, watch);
          return client instanceof Redis ? client : assert.fail();
        };
        const [writer, reader, subscriber] = [open(role), open("blocking"), open("subscriber")];
        const duplicate = reader.duplicate();
        duplicate.on("error", () => undefined);
        const all = [writer, reader, subscriber, duplicate];
        try {
          await Promise.all([writer, reader, subscriber].map((each) => connectRedis(each, 15_000)));
          await duplicate.connect();
          const heard: string[] = [];
          subscriber.on("message", (_channel: string, text: string) => heard.push(text));
          await subscriber.subscribe("news");
          await failOver();
          assert.equal(await succeeds(write(writer)), false);
          assert.equal(await succeeds(reader.get("written")), true, "until there is another, it can be read");
          switchOver();
          await until("it can write", () => succeeds(write(writer)), WORKS_AGAIN_MS);
          const isAtNext = async (redis: Redis) => /role:master/.test(await redis.info("replication").catch(() => ""));
          for (const each of [writer, reader, duplicate])
            await until("it is at the new primary", () => isAtNext(each), WORKS_AGAIN_MS);
          await until(
            "who listens is there again",
            async () => (await next.publish("news", "new")) > 0,
            WORKS_AGAIN_MS,
          );
          await until("it has heard", () => heard.includes("new"));
        } finally {
          for (const each of all) each.disconnect();
        }
      });
    });
  }

  it("a lasting replica is checked with pauses by one connection, and no longer once the client is closed", async () => {
    await withPair(async ({ url, old, failOver }) => {
      const client = openRedis(url, "shared", () => undefined);
      try {
        await connectRedis(client, 15_000);
        const id = await client.client("ID");
        await failOver();
        const received = async () =>
          Number(/total_connections_received:(\d+)/.exec(await old.info("stats"))?.[1] ?? Number.NaN);
        const before = await received();
        let refused = 0;
        const countWrite = async () => {
          if (!(await succeeds(client.set("written", 1)))) refused += 1;
          return (await received()) - before >= 4;
        };
        await until("it has looked several times", countWrite);
        assert.ok(refused > 4, `${refused} writes were refused`);
        assert.ok((await received()) - before <= 5);
        assert.equal(await client.client("ID"), id, "it is the same connection");
      } finally {
        client.disconnect();
      }
      await until("nobody is left but the test and the other Redis", async () =>
        /connected_clients:2\r/.test(await old.info("clients")),
      );
    });
  });
});

it("P1, P17: all parts find the new primary, accepted jobs are done, and /readyz answers 503 meanwhile", async (t) => {
  await withPair(async ({ url, old, failOver, switchOver }) => {
    await withCluster(url, {}, async (cluster) => {
      const api = await cluster.api();
      await cluster.masterWorker();
      await cluster.node("n1");
      await cluster.create("n1", "a", ["sleep", "600"]);
      const { pid } = await cluster.master.state.stitch("a");
      const events = await fetch(`${api.url}/v1/events?type=job.ended`);
      const ready = async () => (await fetch(`${api.url}/readyz`)).status;
      assert.equal(await ready(), 200);

      const accepted: JobResource[] = [];
      const send = async (key: string): Promise<boolean> => {
        const response = await fetch(`${api.url}/v1/commands?waitMs=0`, {
          method: "POST",
          headers: { "Content-Type": "application/json", "Idempotency-Key": key },
          body: JSON.stringify({ command: "node.ping", target: "n1", waitForNode: true }),
        });
        const body = (await response.json()) as JobResource & { code?: string };
        if (response.ok) accepted.push(body);
        else assert.equal(body.code, "redis_unavailable", JSON.stringify(body));
        return response.ok;
      };
      let sending = true;
      const sender = (async () => {
        for (let index = 0; sending; index++) await send(`ping ${index}`);
      })();
      await until("some were accepted", () => accepted.length >= 5);
      await failOver();
      await until("/readyz says that it is not ready", async () => (await ready()) === 503);
      assert.equal(await old.get(cluster.open.keys.format), String(FORMAT), "it can be read");
      switchOver();
      const switchedAtMs = performance.now();
      await until("/readyz says that it is ready", async () => (await ready()) === 200, WORKS_AGAIN_MS);
      const before = accepted.length;
      await until("more are accepted", () => accepted.length >= before + 5, WORKS_AGAIN_MS);
      sending = false;
      await sender;
      for (const { id } of accepted) {
        const done = await until(`the job ${id} has ended`, async () => {
          const response = await fetch(`${api.url}/v1/jobs/${id}`);
          assert.notEqual(response.status, 404, `the job ${id} is lost`);
          const job = (await response.json()) as JobResource;
          return response.ok && job.finishedAt !== null && job;
        });
        assert.equal(done.status, "succeeded", JSON.stringify(done));
      }
      t.diagnostic(
        `${accepted.length} jobs, all ended ${Math.round(performance.now() - switchedAtMs)} ms after the switch`,
      );
      const node = (await (await fetch(`${api.url}/v1/nodes/n1`)).json()) as NodeResource;
      assert.equal(node.liveness, "alive");
      const { redis, keys } = cluster.open;
      await until("the master tends again", async () => {
        // The last member only keeps the list there.
        const seen = await redis.zrange(keys.masters, "-2", "-2", "WITHSCORES").catch(() => []);
        return Number(seen[1]) > Date.now() - 3000;
      });
      const after = await cluster.master.state.stitch("a");
      assert.deepEqual([after.state, after.pid, after.restarts], ["running", pid, 0], "it never stopped");
      assert.ok(isRunning(pid ?? 0));
      await events.body?.cancel();
    });
  });
});
