import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { Redis } from "ioredis";
import { findRedisServer, startLocalRedis } from "../../src/cli/processes/local-redis.ts";
import { waitUntil } from "../../src/cli/processes/wait-until.ts";
import { processesOf } from "../support/process-list.ts";

const LIMIT_MS = 15_000;
const module = new URL("../../src/cli/processes/local-redis.ts", import.meta.url).href;

async function folder(t: TestContext): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), "local-redis-"));
  t.after(async () => {
    assert.ok(await waitUntil(async () => (await processesOf(dir)).length === 0, LIMIT_MS), "a process is left");
    await rm(dir, { recursive: true });
  });
  return dir;
}

async function withClient<T>(url: string, use: (client: Redis) => Promise<T>): Promise<T> {
  const { protocol, pathname } = new URL(url);
  const client = protocol === "redis+unix:" ? new Redis({ path: decodeURIComponent(pathname) }) : new Redis(url);
  try {
    return await use(client);
  } finally {
    client.disconnect();
  }
}

test("a local Redis started twice at once is one; it may be stopped twice at once, and loads its data again", async (t) => {
  const dir = join(await folder(t), "a folder");
  const [first, same] = await Promise.all([startLocalRedis({ dir }), startLocalRedis({ dir })]);
  assert.equal(first, same);
  assert.match(first.url, /^redis\+unix:\/\/.*\/a%20folder\/redis\.sock$/);
  const settings = await withClient(first.url, async (client) => {
    await client.set("kept", "yes");
    return [await client.config("GET", "maxmemory-policy"), await client.config("GET", "appendonly")];
  });
  assert.deepEqual(settings, [
    ["maxmemory-policy", "noeviction"],
    ["appendonly", "yes"],
  ]);
  await Promise.all([first.stop(), first.stop()]);

  const again = await startLocalRedis({ dir, port: 0 });
  assert.match(again.url, /^redis:\/\/127\.0\.0\.1:\d+$/);
  assert.equal(await withClient(again.url, (client) => client.get("kept")), "yes");
  await again.stop();
});

test("a local Redis ends with the process that started it, even after SIGKILL; the next start takes its folder", async (t) => {
  const dir = await folder(t);
  const script = `const { startLocalRedis } = await import(${JSON.stringify(module)});
    const redis = await startLocalRedis({ dir: ${JSON.stringify(dir)} });
    process.stdout.write(String(redis.pid));`;
  const parent = spawn(process.execPath, ["--input-type=module", "-e", script], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const [printed] = (await once(parent.stdout, "data")) as [Buffer];
  const pid = Number(printed.toString());
  assert.ok((await processesOf(dir)).some((line) => line.startsWith(`${pid} `)));
  parent.kill("SIGKILL");
  await once(parent, "exit");

  const next = await startLocalRedis({ dir });
  assert.notEqual(next.pid, pid);
  assert.ok(!(await processesOf(dir)).some((line) => line.startsWith(`${pid} `)));
  await next.stop();
});

test("a local Redis that was killed says how it ended, and can be started again", async (t) => {
  const dir = await folder(t);
  const redis = await startLocalRedis({ dir });
  redis.kill("SIGKILL");
  assert.equal(await redis.ended, "SIGKILL");
  await redis.stop();
  await (await startLocalRedis({ dir })).stop();
});

test("an unknown setting is reported in Redis's own words, and nothing is left", async (t) => {
  const dir = await folder(t);
  await assert.rejects(startLocalRedis({ dir, settings: { "no-such-setting": "1" } }), {
    name: "LocalRedisError",
    message: /no-such-setting/,
  });
});

test("no Redis server is found if there is none on the PATH", () => {
  assert.equal(findRedisServer("/nonexistent:"), null);
});
