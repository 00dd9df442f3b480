// Which servers may hold a cluster, by what they answer to INFO. The lines are those of the servers named.
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { startLocalRedis } from "../../src/cli/processes/local-redis.ts";
import { connectRedis, openRedis } from "../../src/redis/connection/connection.ts";
import { refuseUnfitServer, whyUnfit } from "../../src/redis/connection/fit-server.ts";

const info = (...lines: string[]): string => ["# Server", ...lines, "", "# Memory", "used_memory:1"].join("\r\n");

for (const [what, lines] of [
  ["Redis 7.0", ["redis_version:7.0.15", "maxmemory_policy:noeviction"]],
  ["Redis 8", ["redis_version:8.2.1"]],
  ["Valkey", ["redis_version:7.2.4", "server_name:valkey", "valkey_version:8.1.1"]],
  ["a server that hides its version", ["redis_mode:standalone"]],
] as const)
  test(`${what} may hold a cluster`, () => assert.equal(whyUnfit(info(...lines)), null));

for (const [what, lines, reason] of [
  ["Redis 6.2", ["redis_version:6.2.14"], /^REDIS_URL: this Redis has version 6\.2\.14, and 7\.0 is the oldest/],
  ["KeyDB", ["redis_version:6.3.4"], /version 6\.3\.4/],
  ["Valkey 7.1", ["redis_version:7.2.4", "valkey_version:7.1.0"], /this Valkey has version 7\.1\.0, and 7\.2/],
  ["Dragonfly", ["redis_version:7.4.0", "dragonfly_version:df-v1.25.0"], /^REDIS_URL: this is Dragonfly df-v1\.25\.0/],
  ["Garnet", ["redis_version:7.4.3", "garnet_version:1.0.61"], /this is Garnet/],
  ["Kvrocks", ["redis_version:7.0.0", "kvrocks_version:2.11.1"], /this is Kvrocks/],
  [
    "what gives itself another name",
    ["redis_version:7.2.4", "server_name:else"],
    /^REDIS_URL: this is else, which is not/,
  ],
  ["a Redis that evicts keys", ["redis_version:7.2.0", "maxmemory_policy:allkeys-lru"], /allkeys-lru.*noeviction/],
] as const)
  test(`${what} is refused in one line that says what to change`, () => {
    const why = whyUnfit(info(...lines));
    assert.match(why ?? "", reason);
    assert.equal(why?.split("\n").length, 1);
  });

test("a real server is judged by what it answers", async (t) => {
  const dir = mkdtempSync(join(tmpdir(), "cs-fit-"));
  const local = await startLocalRedis({ dir, port: 0 });
  const redis = openRedis(local.url, "shared", () => undefined);
  t.after(async () => {
    redis.disconnect();
    await local.stop();
    rmSync(dir, { recursive: true, force: true });
  });
  await connectRedis(redis, 5000);
  await refuseUnfitServer(redis);
  await redis.config("SET", "maxmemory-policy", "volatile-ttl");
  await assert.rejects(refuseUnfitServer(redis), { name: "RedisRefused", message: /volatile-ttl/ });
});
