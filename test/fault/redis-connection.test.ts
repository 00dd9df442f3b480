import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { type AddressInfo, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, it } from "node:test";
import { Redis } from "ioredis";
import type { RedisClient } from "../../src/redis/connection/client.ts";
import { SetupRefused } from "../../src/redis/connection/setup-refused.ts";
import {
  type ConnectionRole,
  connectRedis,
  isRedisUnavailable,
  openRedis,
} from "../../src/redis/connection/connection.ts";
import { REDISES, TestCluster, until } from "../support/cluster.ts";
import { type Proxy, startProxy } from "../support/proxy.ts";
import { withOwnRedis } from "../support/own-redis.ts";
import { startLocalCluster } from "../support/redis-cluster.ts";
import { openStallingProxy } from "../support/stalling-proxy.ts";
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
    it(`refuses commands under way (${answered} answers of a pipeline have come), and serves later ones`, async () => {
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
  it("fails with the setting, the reason and the next step, without the password, and does not report each try", async () => {
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

  it("fails in time if Redis falls silent while a Master opens", async () => {
    const cluster = await new TestCluster(REDISES[0]?.url ?? "").start();
    const proxy = await openStallingProxy(cluster.redisUrl);
    try {
      const stalled = proxy.stall((words) => words.includes(cluster.open.keys.format));
      const startedAtMs = performance.now();
      const opening = cluster.openMaster("late", { redisUrl: proxy.url, checkFirst: true, connectTimeoutMs: 500 });
      await assert.rejects(opening, /Redis does not answer at REDIS_URL \(no answer within 500 ms\)/);
      await stalled;
      // By itself, the connection would be given up after 15 s.
      const tookMs = performance.now() - startedAtMs;
      assert.ok(tookMs < 5000, `${tookMs} ms`);
    } finally {
      await proxy.close();
      await cluster.stop();
    }
  });

  it("with a wrong password fails with the reason, without the password", async () => {
    const url = new URL(REDISES[0]?.url ?? "");
    url.username = "nobody";
    url.password = "canary";
    const client = openRedis(url.href, "shared", () => undefined);
    await assert.rejects(
      connectRedis(client, 3000),
      /^SetupRefused: Redis lets nobody in .*REDIS_URL \(WRONGPASS\); check them$/,
    );
  });

  it("once made, is reported if it cannot be made again", async () => {
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

/** A Redis of the test's own, with an administrator's connection to it. */
async function withAdmin(work: (url: string, admin: Redis) => Promise<void>): Promise<void> {
  await withOwnRedis(async ({ url }) => {
    const admin = new Redis(url);
    try {
      await work(url, admin);
    } finally {
      admin.disconnect();
    }
  });
}

const urlWith = (url: string, parts: { user?: string; password?: string; db?: number }): string => {
  const made = new URL(url);
  made.username = parts.user ?? "";
  made.password = parts.password ?? "";
  made.pathname = parts.db === undefined ? "" : `/${parts.db}`;
  return made.href;
};

const connections = async (admin: Redis): Promise<number> =>
  Number(/total_connections_received:(\d+)/.exec(await admin.info("stats"))?.[1]);

describe("a connection that Redis does not set up as asked", { concurrency: 3 }, () => {
  for (const [what, prepare, parts, says] of [
    [
      "a database that it does not have",
      [],
      { db: 99 },
      /no database of the number in REDIS_URL.*CONFIG GET databases/,
    ],
    [
      "a database that the user may not choose",
      ["u", "on", ">canary", "~*", "&*", "+@all", "-select"],
      { user: "u", password: "canary", db: 1 },
      /may not choose a database \(SELECT: NOPERM\).*\+select/,
    ],
    ["a password that it does not have", ["default", ">other"], { password: "canary" }, /\(WRONGPASS\); check them/],
    ["a password, where it has none", [], { password: "canary" }, /lets everybody in.*requirepass/],
    [
      "a password for the default user, where it has none",
      [],
      { user: "default", password: "canary" },
      /lets everybody in/,
    ],
    ["no password, where it wants one", ["default", "resetpass", ">other"], {}, /wants a password \(NOAUTH\)/],
    [
      "a user that is off",
      ["u", "off", ">canary", "+@all"],
      { user: "u", password: "canary" },
      /\(WRONGPASS\); check them/,
    ],
  ] as const) {
    it(`${what}: fails at once, with the reason and the next step, and without the password`, async () => {
      await withAdmin(async (url, admin) => {
        if (prepare.length > 0) await admin.call("ACL", "SETUSER", ...prepare);
        for (const role of ["shared", "blocking", "subscriber"] as const) {
          const client = openRedis(urlWith(url, parts), role, () => undefined);
          const startedAtMs = performance.now();
          await assert.rejects(connectRedis(client, 30_000), (error) => {
            assert.ok(error instanceof SetupRefused, String(error));
            assert.match(error.message, says);
            assert.doesNotMatch(error.message, /canary/);
            return true;
          });
          assert.ok(performance.now() - startedAtMs < 15_000, "it did not wait for the end of the time");
        }
      });
    });
  }

  it("a database number on a Redis Cluster: fails at once, with the URL scheme of a Cluster", async (t) => {
    const [, cluster] = REDISES;
    if (cluster === undefined) {
      t.skip("needs a Redis Cluster (TEST_REDIS_CLUSTER_URL)");
      return;
    }
    const [first = ""] = cluster.url.replace("redis+cluster", "redis").split(",");
    const client = openRedis(`${first}/1`, "shared", () => undefined);
    await assert.rejects(connectRedis(client, 30_000), /SetupRefused: .*SELECT is refused.*redis\+cluster:\/\//);
  });

  it("a wrong password for a Redis Cluster: fails at once", async (t) => {
    const [, cluster] = REDISES;
    if (cluster === undefined) {
      t.skip("needs a Redis Cluster (TEST_REDIS_CLUSTER_URL)");
      return;
    }
    for (const [user, says] of [
      ["nobody:canary@", /WRONGPASS/],
      [":canary@", /lets everybody in/],
    ] as const) {
      const client = openRedis(cluster.url.replace("://", `://${user}`), "shared", () => undefined);
      await assert.rejects(connectRedis(client, 30_000), (error) => {
        assert.ok(error instanceof SetupRefused, String(error));
        assert.match(error.message, says);
        return true;
      });
    }
  });

  it("waits for a Redis that already has as many clients as it takes", async () => {
    await withAdmin(async (url, admin) => {
      const [, most = ""] = await admin.config("GET", "maxclients");
      await admin.config("SET", "maxclients", "1");
      const client = openRedis(url, "shared", () => undefined);
      try {
        let told = "";
        client.on("error", (error) => {
          told = error.message;
        });
        const connected = connectRedis(client, 30_000);
        await until("it has been refused", () => /max number of clients/.test(told));
        await admin.config("SET", "maxclients", most);
        await connected;
        await works(client);
      } finally {
        client.disconnect();
      }
    });
  });

  for (const role of ["shared", "direct", "blocking", "subscriber"] as const) {
    it(`${role}: refused on reconnect, it never uses another database, and retries with pauses until let in`, async () => {
      await withAdmin(async (url, admin) => {
        await admin.call("ACL", "SETUSER", "u", "on", ">p", "~*", "&*", "+@all");
        const told: Error[] = [];
        const client = openRedis(urlWith(url, { user: "u", password: "p", db: 1 }), role, (error) => told.push(error));
        try {
          await connectRedis(client, 15_000);
          // BullMQ duplicates connections, too.
          const other = client instanceof Redis ? client.duplicate() : assert.fail();
          other.on("error", (error) => told.push(error));
          await other.connect();
          for (const [rules, allowed, says] of [
            [["-select"], ["+select"], /may not choose a database/],
            [["resetpass"], [">p"], /lets nobody in/],
            [["off"], ["on"], /lets nobody in/],
          ] as const) {
            told.length = 0;
            await admin.call("ACL", "SETUSER", "u", ...rules);
            const before = await connections(admin);
            const asked = [client, other].map((each) => each.set("written", "1").then(undefined, () => undefined));
            await admin.client("KILL", "USER", "u");
            await until(
              "it has been refused several times",
              () => told.filter(({ message }) => says.test(message)).length >= 8,
            );
            assert.ok((await connections(admin)) - before < 60, "it does not try without a pause");
            assert.deepEqual(
              [await admin.dbsize(), client.status === "ready", other.status === "ready"],
              [0, false, false],
            );
            await admin.call("ACL", "SETUSER", "u", ...allowed);
            await Promise.all([works(client), works(other)]);
            await Promise.all(asked);
            assert.equal(await admin.dbsize(), 0, "nothing was written in database 0");
          }
          other.disconnect();
        } finally {
          client.disconnect();
        }
      });
    });
  }
});

it("while a Redis Cluster lets nobody in, clients retry with pauses, and they work again when it does", async () => {
  const dir = mkdtempSync(join(tmpdir(), "cs-refusing-"));
  const cluster = await startLocalCluster({ dir, masters: 3 });
  const admins = cluster.masters.map(({ url }) => new Redis(url));
  const all = (...words: [string, ...string[]]) =>
    Promise.all(admins.map((admin) => admin.call("ACL", "SETUSER", "u", ...words)));
  const received = async () => (await Promise.all(admins.map(connections))).reduce((sum, each) => sum + each, 0);
  await all("on", ">p", "~*", "&*", "+@all");
  const url = cluster.url.replace("://", "://u:p@");
  const told: Error[] = [];
  const [writer, subscriber] = (["shared", "subscriber"] as const).map((role) =>
    openRedis(url, role, (error) => told.push(error)),
  );
  try {
    assert.ok(writer !== undefined && subscriber !== undefined);
    await Promise.all([writer, subscriber].map((each) => connectRedis(each, 15_000)));
    const heard: string[] = [];
    subscriber.on("message", (_channel: string, text: string) => heard.push(text));
    await subscriber.subscribe("news");
    await works(writer);
    await all("resetpass");
    const before = await received();
    await Promise.all(admins.map((admin) => admin.client("KILL", "USER", "u").catch(() => 0)));
    await until("it says that it is refused", async () => {
      await writer.set("written", 1).catch(() => undefined);
      return told.filter(({ message }) => /lets nobody in/.test(message)).length >= 8;
    });
    assert.ok(
      (await received()) - before < 300,
      `${(await received()) - before} connections: it tries without a pause`,
    );
    await all(">p");
    await works(writer);
    await until("it hears", async () => {
      await writer.publish("news", "new").catch(() => undefined);
      return heard.includes("new");
    });
  } finally {
    for (const each of [writer, subscriber, ...admins]) each?.disconnect();
    await cluster.stop();
    rmSync(dir, { recursive: true, force: true });
  }
});

async function withSentinel(work: (redis: LocalSentinel, proxy: Proxy) => Promise<void>): Promise<void> {
  const dir = mkdtempSync(join(tmpdir(), "cs-connection-"));
  // The test forces a failover; none may come by itself.
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
    it(`${role}: finds the new primary if it hears of a failover while it looks for the primary`, async () => {
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

  it("skips a Sentinel that hangs", async () => {
    await withSentinel(async (redis, proxy) => {
      proxy.hold();
      await withClient(`redis+sentinel://127.0.0.1:${proxy.port},127.0.0.1:${redis.port}/main`, "shared", works);
    });
  });

  it("rediss+sentinel:// uses TLS to Sentinel, and is set to use it to Redis", async () => {
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
