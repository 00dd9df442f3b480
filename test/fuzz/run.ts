// `npm run fuzz -- MINUTES [SEED]` runs this (default: 1 minute, a new seed): bad requests against an API on a Redis of its
// own, as test/integration/http-fuzz.test.ts does for some seconds. Fails if one gets a wrong answer or delays others.
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type LocalRedis, startLocalRedis } from "../../src/cli/processes/local-redis.ts";
import { withCluster } from "../support/cluster.ts";
import { fuzzHttp } from "../support/http-fuzz.ts";
import { registerTestNode } from "../support/register-test-node.ts";

const minutes = Number(process.argv[2] ?? "1");
const seed = Number(process.argv[3] ?? Date.now() % 1_000_000);
if (!(minutes > 0 && minutes <= 24 * 60 && Number.isSafeInteger(seed))) {
  process.stderr.write("npm run fuzz -- MINUTES [SEED]: a number of minutes, at most a day, and a whole number\n");
  process.exitCode = 1;
} else {
  const dir = await mkdtemp(join(tmpdir(), "crossstitch-fuzz-"));
  let redis: LocalRedis | null = null;
  try {
    redis = await startLocalRedis({ dir: join(dir, "redis"), port: 0 });
    await withCluster(redis.url, {}, async (cluster) => {
      const { url } = await cluster.api();
      await registerTestNode(cluster.open.redis, cluster.open.keys, "n1");
      process.stdout.write(`Bad requests for ${minutes} min, seed ${seed}.\n`);
      const { requests, statuses, livez, findings } = await fuzzHttp(url, seed, minutes * 60_000);
      const counts = [...statuses].sort(([a], [b]) => a - b).map(([status, count]) => `${count} × ${status}`);
      process.stdout.write(`${requests} requests: ${counts.join(", ")}.\n`);
      process.stdout.write(`/livez: ${livez.answers} answers, the slowest in ${livez.slowestMs.toFixed(0)} ms.\n`);
      if (findings.length > 0) throw new Error(findings.join("\n"));
    });
  } catch (error) {
    process.stderr.write(`${error instanceof Error ? error.stack : String(error)}\n`);
    process.exitCode = 1;
  } finally {
    await redis?.stop();
    await rm(dir, { recursive: true, force: true });
  }
}
