import { LATE, orLate } from "../bounded-wait.ts";
import type { ChosenMaster } from "../domain/master-mode.ts";
import { Dispatcher } from "../queue/dispatcher.ts";
import { MastersQueue } from "../queue/masters-queue.ts";
import type { RedisClient } from "../redis/connection/client.ts";
import { connectRedis, noAnswer, openRedis } from "../redis/connection/connection.ts";
import { refuseUnfitServer } from "../redis/connection/fit-server.ts";
import { refuseOtherFormat } from "../redis/format.ts";
import { JobHints } from "../redis/job/job-hints.ts";
import { Keys } from "../redis/keys.ts";
import { ReplyHints } from "../redis/inbox/reply-hints.ts";
import { ServerWatch } from "../redis/connection/server-watch.ts";
import { defaultMaster } from "./default-master.ts";
import { LateWork } from "./jobs/late-work.ts";
import { leaseAt } from "./leader/candidate.ts";
import type { OpenQueueWorker } from "./leader/request-handler.ts";
import { type WrapMaster, wrapMaster } from "./own-master.ts";
import type { Master } from "./ports.ts";

export type OpenMasterOptions = {
  readonly redisUrl: string;
  readonly cluster: string;
  readonly chosen: ChosenMaster;
  /** In the mode `own`, what the user's module exports; else null. */
  readonly wrap: WrapMaster | null;
  /**
   * In the mode `leader`, for a process that takes part in the election: how long the leader's lease lasts after each renewal, and how
   * to take the requests to the leader. null: the process only sends such requests.
   */
  readonly candidacy: { readonly leaseMs: number; readonly openWorker: OpenQueueWorker } | null;
  readonly id: string;
  /** Of the nodes. */
  readonly heartbeatMs: number;
  readonly leaseMs: number;
  readonly deadAfterMs: number;
  readonly jobRetentionMs: number;
  /** Called with connection errors, and with errors after a command was accepted. */
  readonly onError: (error: unknown) => void;
  /** How long to wait for Redis at the start, checks included. */
  readonly connectTimeoutMs: number;
  /** Check first that Redis is fit to hold a cluster, and holds this one in this format: once per process, not per request. */
  readonly checkFirst: boolean;
};

/** A Master with its connections. */
export type OpenMaster = {
  readonly master: Master;
  readonly keys: Keys;
  /** The shared connection. */
  readonly redis: RedisClient;
  /** Opens a connection for one blocking reader; the caller disconnects it. */
  openBlocking(): RedisClient;
  /** Resolves when nothing that was begun for a request goes on after its answer. Closed earlier, another Master finishes it. */
  settled(): Promise<void>;
  /** Closes every connection. Safe to repeat. */
  close(): void;
};

/**
 * Connects to Redis and creates a Master on that connection.
 * @throws the connection error if Redis does not answer in time; RedisRefused if Redis is not fit, or holds the
 *   cluster in another format.
 */
export async function openMaster(options: OpenMasterOptions): Promise<OpenMaster> {
  const watch = new ServerWatch();
  const open = (role: "shared" | "blocking" | "subscriber") =>
    openRedis(options.redisUrl, role, options.onError, {}, watch);
  const redis = open("shared");
  const keys = new Keys(options.cluster);
  const { connectTimeoutMs } = options;
  const connectingSinceMs = performance.now();
  await connectRedis(redis, connectTimeoutMs);
  const dispatcher = new Dispatcher(redis, keys);
  const queue = options.chosen.mode === "leader" ? new MastersQueue(redis, keys) : null;
  try {
    const ready = async () => {
      if (options.checkFirst) await Promise.all([refuseUnfitServer(redis), refuseOtherFormat(redis, keys)]);
      await Promise.all([dispatcher.ready(), queue?.ready()]);
    };
    // A connection that falls silent now is noticed by itself only after 15 s.
    const leftMs = connectTimeoutMs - (performance.now() - connectingSinceMs);
    if ((await orLate(ready(), leftMs)) === LATE) throw noAnswer(null, connectTimeoutMs);
  } catch (error) {
    redis.disconnect();
    throw error;
  }
  const hints = new JobHints(() => open("subscriber"), keys);
  const replies = new ReplyHints(() => open("subscriber"), keys, crypto.randomUUID());
  const { chosen, candidacy } = options;
  const closed = new AbortController();
  const late = new LateWork(options.onError);
  const base = defaultMaster({
    id: options.id,
    chosen,
    led:
      queue === null
        ? null
        : {
            queue,
            candidate:
              candidacy === null
                ? null
                : {
                    ...candidacy,
                    lease: leaseAt({ redis, keys, chosen }, candidacy.leaseMs),
                    openBlocking: () => open("blocking"),
                    closed: closed.signal,
                    random: Math.random,
                  },
          },
    redis,
    keys,
    hints,
    replies,
    dispatcher,
    heartbeatMs: options.heartbeatMs,
    leaseMs: options.leaseMs,
    deadAfterMs: options.deadAfterMs,
    jobRetentionMs: options.jobRetentionMs,
    nowMs: Date.now,
    randomBytes: (count) => crypto.getRandomValues(new Uint8Array(count)),
    onLate: options.onError,
    late,
  });
  const close = () => {
    closed.abort();
    hints.close();
    replies.close();
    redis.disconnect();
  };
  const { wrap } = options;
  let master = base;
  try {
    if (wrap !== null) master = wrapMaster(base, wrap, options.cluster, Date.now);
  } catch (error) {
    close();
    throw error;
  }
  return {
    master,
    keys,
    redis,
    openBlocking: () => open("blocking"),
    settled: () => late.settled(),
    close,
  };
}
