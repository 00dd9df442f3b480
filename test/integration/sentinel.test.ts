import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { it } from "node:test";
import { findRedisServer, startLocalRedis } from "../../src/cli/local-redis.ts";
import { withCluster } from "../support/cluster.ts";

async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  server.close();
  await once(server, "close");
  return typeof address === "object" && address !== null ? address.port : assert.fail();
}

it("works through Sentinel: the node, the Master and a command", async () => {
  const dir = mkdtempSync(join(tmpdir(), "cs-sentinel-"));
  const redis = await startLocalRedis({ dir: join(dir, "redis"), port: 0 });
  const port = await freePort();
  const conf = join(dir, "sentinel.conf");
  writeFileSync(
    conf,
    [
      `port ${port}`,
      "bind 127.0.0.1",
      `dir ${dir}`,
      `sentinel monitor main 127.0.0.1 ${new URL(redis.url).port} 1`,
      "sentinel down-after-milliseconds main 60000",
    ].join("\n"),
  );
  const sentinel = spawn(findRedisServer() ?? assert.fail(), [conf, "--sentinel"], { stdio: "ignore" });
  try {
    await withCluster(`redis+sentinel://127.0.0.1:${port}/main`, {}, async (cluster) => {
      await cluster.node("n1");
      assert.equal((await cluster.run({ command: "node.ping", target: "n1" })).status, "succeeded");
      await cluster.create("n1", "a", ["sleep", "600"]);
      assert.equal((await cluster.run({ command: "stitch.stop", target: "a" })).status, "succeeded");
    });
  } finally {
    sentinel.kill("SIGKILL");
    await once(sentinel, "exit");
    await redis.stop();
    rmSync(dir, { recursive: true, force: true });
  }
});
