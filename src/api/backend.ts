import { orLate } from "../bounded-wait.ts";
import type { Config } from "../config.ts";
import { requireRedis } from "../config.ts";
import type { EventResource } from "../contract/event.ts";
import { type OpenMaster, openMaster } from "../master/open-master.ts";
import type { WrapMaster } from "../master/own-master.ts";
import type { Master } from "../master/ports.ts";
import { writeFormat } from "../redis/format.ts";
import { followEvents } from "./follow-events.ts";

/** The cluster, as the API reaches it. */
export type Backend = {
  readonly master: Master;
  /**
   * Follows events after an id (null: from now on), until the signal aborts. Resolves once the position is fixed: every event
   * after that is included. @throws RequestError `events_gone`; the iteration throws `events_gone` if its reader was too slow.
   */
  readonly followEvents: (
    after: string | null,
    signal: AbortSignal,
  ) => Promise<AsyncIterable<readonly EventResource[]>>;
  /** Resolves if Redis answers and accepts writes. */
  readonly ping: () => Promise<void>;
};

/** A backend with its connections. */
export type OpenBackend = Backend & {
  /** false: it has lost its connection, and commands fail until it has a new one. */
  readonly isConnected: () => boolean;
  /** Resolves when the work is done that goes on after answers: a platform that stops between requests would lose it. */
  readonly settled: () => Promise<void>;
  /** Closes the connections. Safe to repeat. */
  readonly close: () => void;
};

export type BackendOptions = {
  /** The Master's id in the jobs that it accepts. */
  readonly id: string;
  /** In the mode `own`, what the user's module exports; else null. */
  readonly wrap: WrapMaster | null;
  readonly connectTimeoutMs: number;
  /** Check first that Redis is fit to hold the cluster: once per process, not per request. */
  readonly checkFirst: boolean;
  /** Called with connection errors, and with errors after a command was accepted. */
  readonly onError: (error: unknown) => void;
};

/** Lets what goes on after its answer end, for at most `graceMs`, then closes the connections. Another Master finishes what is cut. */
export async function closeBackend(backend: OpenBackend, graceMs: number): Promise<void> {
  await orLate(backend.settled(), graceMs);
  backend.close();
}

/** Connects to the Redis of the settings. @throws as `openMaster`; ConfigError if no Redis is set. */
export async function openBackend(config: Config, options: BackendOptions): Promise<OpenBackend> {
  return backendOf(
    await openMaster({
      ...options,
      redisUrl: requireRedis(config),
      cluster: config.cluster,
      chosen: config.master,
      heartbeatMs: config.heartbeatMs,
      leaseMs: config.leaseMs,
      deadAfterMs: config.deadAfterMs,
      jobRetentionMs: config.jobRetentionMs,
      candidacy: null,
    }),
  );
}

/** A Master with its connections, as the API uses it. */
export function backendOf(open: OpenMaster): OpenBackend {
  return {
    master: open.master,
    followEvents: (after, signal) => followEvents(open, after, signal),
    ping: () => writeFormat(open.redis, open.keys),
    isConnected: () => open.redis.status === "ready",
    settled: () => open.settled(),
    close: () => open.close(),
  };
}
