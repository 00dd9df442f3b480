import { pause, within } from "../../src/bounded-wait.ts";
import { type Config, requireRedis } from "../../src/config.ts";
import { loadOwnMaster } from "../../src/load-own-master.ts";
import { seldom } from "../../src/error-log.ts";
import { RequestError } from "../../src/domain/errors.ts";
import { createLogger } from "../../src/logger.ts";
import { openMaster } from "../../src/master/open-master.ts";
import { writeFormat } from "../../src/redis/format.ts";
import { QueueWorker } from "../../src/queue/queue-worker.ts";
import type { RunningPart } from "../../src/running-part.ts";
import { Sweeper } from "./sweeper.ts";

/** How long Redis, and what else keeps the leader's lease, may take to answer at the start. */
const CONNECT_MS = 10_000;
const JOIN_AGAIN_MS = 200;
const STOP_MS = 3000;
/** How often the same error is logged while Redis stays away. */
const SAME_ERROR_MS = 10_000;
/** How long a Master that ends tries to take itself off the list. */
const LEAVE_MS = 1000;

/**
 * Starts a master worker: it finishes dispatches, and expires and closes jobs. Any number may run.
 * @param id names this Master on the list of Masters, and in `STITCH_MASTER_PREFERRED`.
 * @throws RequestError `wrong_mode` if the cluster's Masters have another mode.
 */
export async function startMaster(config: Config, id = config.nodeId): Promise<RunningPart> {
  const log = createLogger(config, "master");
  const onError = seldom(SAME_ERROR_MS, (error) =>
    log.warn({ err: error }, "a sweep failed; the next one makes up for it"),
  );
  const open = await openMaster({
    redisUrl: requireRedis(config),
    cluster: config.cluster,
    chosen: config.master,
    wrap: await loadOwnMaster(config.masterModule),
    id,
    heartbeatMs: config.heartbeatMs,
    leaseMs: config.leaseMs,
    deadAfterMs: config.deadAfterMs,
    jobRetentionMs: config.jobRetentionMs,
    candidacy: { leaseMs: config.leaderLeaseMs, openWorker: (queue) => new QueueWorker(queue) },
    onError,
    connectTimeoutMs: CONNECT_MS,
    checkFirst: true,
  });
  const { upkeep } = open.master;
  try {
    await joinWithin(CONNECT_MS, () => upkeep.join());
  } catch (error) {
    open.close();
    throw error;
  }
  const blocking = open.openBlocking();
  const sweeper = new Sweeper({ upkeep, blocking, onError });
  const ended = Promise.withResolvers<void>();
  let failure: RequestError | null = null;
  let stopping: Promise<void> | null = null;
  const stop = () => (stopping ??= leave());
  const leave = async () => {
    await sweeper.stop(STOP_MS);
    await within(LEAVE_MS, upkeep.leave()).catch(onError);
    open.close();
    if (failure === null) ended.resolve();
    else ended.reject(failure);
  };
  sweeper.start((error) => {
    // The mode was changed while this Master ran: it must not decide any more.
    failure ??= error;
    void stop();
  });
  // Whoever runs the Master waits for it; its failure must not end the process before that.
  ended.promise.catch(() => undefined);
  return {
    ready: `master ${id} tends the cluster "${config.cluster}"`,
    works: () => writeFormat(open.redis, open.keys),
    stop,
    kill: () => {
      blocking.disconnect();
      open.close();
    },
    ended: ended.promise,
  };
}

/** Joins; tries again for `limitMs` while nothing answers. @throws the last error; a refusal (RequestError) at once. */
async function joinWithin(limitMs: number, join: () => Promise<unknown>): Promise<void> {
  const untilMs = performance.now() + limitMs;
  for (;;) {
    try {
      await join();
      return;
    } catch (error) {
      if (error instanceof RequestError || performance.now() + JOIN_AGAIN_MS > untilMs) throw error;
      await pause(JOIN_AGAIN_MS);
    }
  }
}
