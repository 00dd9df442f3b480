import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type LocalRedis, startLocalRedis } from "../../src/cli/processes/local-redis.ts";
import { until } from "./cluster.ts";
import { isRunning } from "./process-list.ts";

export type OwnRedis = {
  readonly url: string;
  /** The folder of the Redis. */
  readonly dir: string;
  /** Kills it with kill -9. */
  crash(): Promise<void>;
  /** Starts it again, on the same port and with what it had on disk; resolves when it answers. */
  back(): Promise<void>;
  /** The Redis that runs now. */
  now(): LocalRedis;
};

/** Runs `work` with a Redis of its own, which it may kill or stop. */
export async function withOwnRedis(
  work: (redis: OwnRedis) => Promise<void>,
  settings: Readonly<Record<string, string>> = {},
): Promise<void> {
  const dir = mkdtempSync(join(tmpdir(), "cs-redis-"));
  let redis = await startLocalRedis({ dir, port: 0, settings });
  const { url } = redis;
  const port = Number(new URL(url).port);
  try {
    await work({
      url,
      dir,
      now: () => redis,
      crash: async () => {
        redis.kill("SIGKILL");
        await until("Redis is gone", () => !isRunning(redis.pid), 5000);
        await redis.stop();
      },
      back: async () => {
        redis = await startLocalRedis({ dir, port, settings });
      },
    });
  } finally {
    // A Redis that was stopped with SIGSTOP would not notice that it must end.
    redis.kill("SIGCONT");
    await redis.stop();
    rmSync(dir, { recursive: true, force: true });
  }
}
