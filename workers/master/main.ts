import { hostname } from "node:os";
import { type Config, requireRedis } from "../../src/config.ts";
import { createLogger } from "../../src/logger.ts";
import { openMaster } from "../../src/master/open-master.ts";
import type { RunningPart } from "../../src/running-part.ts";
import { Sweeper } from "./sweeper.ts";

const CONNECT_MS = 10_000;
const STOP_MS = 3000;

/** Starts a master worker: finishes dispatches, expires late jobs, closes finished ones. Any number may run. */
export async function startMaster(config: Config): Promise<RunningPart> {
  const log = createLogger(config, "master");
  const onError = (error: unknown) => log.warn({ err: error }, "a sweep failed; the next one makes up for it");
  const id = `master-${hostname()}-${process.pid}`;
  const open = await openMaster({
    redisUrl: requireRedis(config),
    cluster: config.cluster,
    mode: config.master,
    id,
    deadAfterMs: config.deadAfterMs,
    jobRetentionMs: config.jobRetentionMs,
    onError,
    connectTimeoutMs: CONNECT_MS,
    checkFirst: true,
  });
  const blocking = open.openBlocking();
  const sweeper = new Sweeper({ upkeep: open.master.upkeep, blocking, onError });
  sweeper.start();
  const ended = Promise.withResolvers<void>();
  let stopping: Promise<void> | null = null;
  const stop = async () => {
    await sweeper.stop(STOP_MS);
    open.close();
    ended.resolve();
  };
  return {
    ready: `master ${id} tends the cluster "${config.cluster}"`,
    stop: () => (stopping ??= stop()),
    kill: () => {
      blocking.disconnect();
      open.close();
    },
    ended: ended.promise,
  };
}
