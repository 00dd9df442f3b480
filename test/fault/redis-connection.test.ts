import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { type AddressInfo, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, it } from "node:test";
import { Redis } from "ioredis";
import type { RedisClient } from "../../src/redis/client.ts";
import { type ConnectionRole, connectRedis, isRedisUnavailable, openRedis } from "../../src/redis/connection.ts";
import { REDISES, until } from "../support/cluster.ts";
import { type Proxy, startProxy } from "../support/proxy.ts";
import { type LocalSentinel, startLocalSentinel } from "../support/redis-sentinel.ts";

/** The type of a TLS connection's first record (RFC 8446, 5.1). */
const TLS_HANDSHAKE = 22;

async function withClient(url: string, role: ConnectionRole, work: (client: RedisClient) => Promise<void>) {
  const client = openRedis(url, role, () => undefined);
  try {
    await connectRedis(client, 15_000);
    await work(client);
  } finally {
    client.disconnect();
  }
}

async function works(client: RedisClient): Promise<void> {
  await until("it works", () =>
    client.set("works", 1).then(
      () => true,
      () => false,
    ),
  );
}

describe("a connection that breaks", { concurrency: 3 }, () => {
  for (const answered of [0, 1]) {
    it(`refuses what is under way (${answered} answers of a pipeline have come), and serves what comes next`, async () => {
      const url = REDISES[0]?.url ?? "";
      await withClient(url, "blocking", async (other) => {
        await withClient(url, "shared", async (client) => {
          const id = await client.client("ID");
          const before = Array.from({ length: answered }, () => client.ping());
          let refused: unknown = null;
          client.blpop(`nothing-${id}`, 0).catch((error: unknown) => {
            refused = error;
          });
          await until("it is under way", async () =>
            String(await other.client("LIST", "ID", id)).includes(" cmd=blpop "),
          );
          await other.client("KILL", "ID", id);
          await until("it is refused", () => refused);
          assert.ok(isRedisUnavailable(refused), String(refused));
          assert.deepEqual(await Promise.all(before), Array(answered).fill("PONG"));
          await works(client);
        });
      });
    });
  }
});

describe("the first connection", { concurrency: 3 }, () => {
  it("fails with the setting, the reason and the next step, without the password; and each try is not told of by itself", async () => {
    const told: Error[] = [];
    const client = openRedis("redis://:canary@127.0.0.1:1", "shared", (error) => told.push(error));
    let tries = 0;
    client.on("error", () => {
      tries += 1;
    });
    await assert.rejects(connectRedis(client, 3000), (error) => {
      assert.ok(error instanceof Error && isRedisUnavailable(error));
      const { message } = error;
      assert.match(
        message,
        /^Redis does not answer at REDIS_URL \(.*ECONNREFUSED.*\); check that it runs and the URL$/,
      );
      return true;
    });
    assert.ok(tries > 0);
    assert.deepEqual(told, []);
  });

  it("with a password that is not Redis's says so, and not which", async () => {
    const url = new URL(REDISES[0]?.url ?? "");
    url.username = "nobody";
    url.password = "canary";
    const client = openRedis(url.href, "shared", () => undefined);
    await assert.rejects(
      connectRedis(client, 3000),
      /^Error: Redis lets nobody in .*REDIS_URL \(WRONGPASS\); check them$/,
    );
  });

  it("once made, is told of when it cannot be made again", async () => {
    const proxy = await startProxy(Number(new URL(REDISES[0]?.url ?? "").port));
    const told: Error[] = [];
    const client = openRedis(`redis://127.0.0.1:${proxy.port}`, "shared", (error) => told.push(error));
    try {
      await connectRedis(client, 15_000);
    } finally {
      await proxy.stop();
    }
    await until("it is told of", () => told.length > 0);
    client.disconnect();
  });
});

async function withSentinel(work: (redis: LocalSentinel, proxy: Proxy) => Promise<void>): Promise<void> {
  const dir = mkdtempSync(join(tmpdir(), "cs-connection-"));
  // A failover is forced here, and none is to come of itself.
  const redis = await startLocalSentinel(dir, 60_000);
  const proxy = await startProxy(redis.port);
  try {
    await work(redis, proxy);
  } finally {
    await proxy.stop();
    await redis.stop();
    rmSync(dir, { recursive: true, force: true });
  }
}

describe("a connection through Sentinel", { concurrency: 3 }, () => {
  for (const role of ["shared", "blocking"] as const) {
    it(`${role}: told of a failover while it looks for the primary, it finds the new one`, async () => {
      await withSentinel(async (redis, proxy) => {
        await withClient(`redis+sentinel://127.0.0.1:${proxy.port}/main`, role, async (client) => {
          const sentinel = new Redis({ port: redis.port });
          const listens = async () => / sub=1 /.test(String(await sentinel.client("LIST")));
          try {
            await until("it listens for failovers", listens);
            proxy.hold();
            await redis.cutOff(Number(await client.client("ID")));
            await until("it asks Sentinel for the primary", () => proxy.held > 0);
            await sentinel.call("SENTINEL", "FAILOVER", "main");
            await redis.failedOver();
            await until("it has been told", async () => !(await listens()));
            proxy.release();
            await works(client);
          } finally {
            sentinel.disconnect();
          }
        });
      });
    });
  }

  it("a Sentinel that hangs is passed over", async () => {
    await withSentinel(async (redis, proxy) => {
      proxy.hold();
      await withClient(`redis+sentinel://127.0.0.1:${proxy.port},127.0.0.1:${redis.port}/main`, "shared", works);
    });
  });

  it("rediss+sentinel:// speaks TLS to Sentinel, and is told to with Redis", async () => {
    let first: number | undefined;
    const server = createServer((socket) => {
      socket.on("error", () => undefined);
      socket.once("data", (bytes) => {
        first ??= bytes[0];
        socket.destroy();
      });
    });
    await once(server.listen(0, "127.0.0.1"), "listening");
    const { port } = server.address() as AddressInfo;
    const client = openRedis(`rediss+sentinel://127.0.0.1:${port}/main`, "blocking", () => undefined);
    client.connect().catch(() => undefined);
    assert.equal(await until("it has spoken", () => first), TLS_HANDSHAKE);
    client.disconnect();
    await once(server.close(), "close");
    assert.ok(client instanceof Redis && client.options.tls && client.options.enableTLSForSentinelMode);
  });
});
