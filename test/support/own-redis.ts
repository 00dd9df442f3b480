import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type LocalRedis, startLocalRedis } from "../../src/cli/processes/local-redis.ts";
import { until } from "./cluster.ts";
import { isRunning } from "./process-list.ts";

export type OwnRedis = {
  readonly url: string;
  /** Its folder. */
  readonly dir: string;
  /** Kills it with kill -9. */
  crash(): Promise<void>;
  /** Starts it again, on the same port and with what it had on disk; resolves when it answers. */
  back(): Promise<void>;
  /** The one that runs. */
  now(): LocalRedis;
};

/** A Redis of the test's own, to be hurt. */
export async function withOwnRedis(work: (redis: OwnRedis) => Promise<void>): Promise<void> {
  const dir = mkdtempSync(join(tmpdir(), "cs-redis-"));
  let redis = await startLocalRedis({ dir, port: 0 });
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
        redis = await startLocalRedis({ dir, port });
      },
    });
  } finally {
    // One that is stopped with SIGSTOP would not hear that it is to end.
    redis.kill("SIGCONT");
    await redis.stop();
    rmSync(dir, { recursive: true, force: true });
  }
}
