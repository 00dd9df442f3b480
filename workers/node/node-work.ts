import { within } from "../../src/bounded-wait.ts";
import type { NodePorts } from "../../src/master/ports.ts";
import type { Keys } from "../../src/redis/keys.ts";
import type { Connections } from "./membership/connections.ts";
import type { Membership } from "./membership/membership.ts";
import { NodeMessages } from "./messages/node-messages.ts";
import type { Parts } from "./node-parts.ts";
import { TaskWorker } from "./tasks/task-worker.ts";

/**
 * Longest time that a leaving worker waits for its stitches and
 * its tasks. Then it kills the stitches and hands back the tasks.
 */
const LEAVE_MS = 10_000;
const KILL_MS = 2000;

export type WorkOptions = {
  readonly node: string;
  readonly keys: Keys;
  readonly connections: Connections;
  readonly master: Pick<NodePorts, "orders" | "routing">;
  readonly membership: Membership;
  /** Has the worker ended? */
  readonly hasEnded: () => boolean;
  /** Resolves after the worker's next heartbeat, whether it succeeded or failed. @throws if there will be none. */
  readonly nextBeat: () => Promise<void>;
  readonly say: (message: string) => void;
  readonly onError: (error: unknown) => void;
};

/** Takes the tasks of the node. Call this once the node has registered; no task is taken before `start`. */
export function openTasks(parts: Parts, options: WorkOptions): TaskWorker {
  const { node, keys, connections, master, membership, hasEnded, nextBeat, say, onError } = options;
  const { host, publisher, specs, disk } = parts;
  return new TaskWorker({
    blocking: connections.blocking,
    keys,
    node,
    disk,
    orders: master.orders,
    host,
    publisher,
    specs,
    incarnation: () => membership.incarnation,
    // A fenced worker must not act, even if its lease has not run out by its own clock.
    holdsId: () => membership.holdsId && !hasEnded(),
    learnEligibility: () => membership.learnEligibility(),
    nextBeat,
    nowMs: () => membership.redisNowMs(),
    say,
    onError,
  });
}

/** Reads the inbox of the node. Call this once tasks are taken: messages count as new from here on. Nothing is read before `start`. */
export function openMessages({ registry, outbox }: Parts, options: WorkOptions): NodeMessages {
  const { node, keys, connections, master, membership, onError } = options;
  return new NodeMessages({
    redis: connections.shared,
    openBlocking: () => connections.openBlocking(),
    keys,
    node,
    routing: master.routing,
    registry,
    outbox,
    incarnation: () => membership.incarnation,
    lastTaken: membership.lastTaken,
    holdsId: () => membership.holdsId,
    leaseLeftMs: () => membership.leaseLeftMs,
    nowMs: () => membership.redisNowMs(),
    onError,
  });
}

/**
 * Takes nothing more, stops the stitches, and waits until their outcomes, replies and logs are written. Each wait is
 * bounded; failures are reported. Never rejects.
 */
export async function finishWork(
  parts: Pick<Parts, "host" | "outbox"> | null,
  { tasks, messages }: { readonly tasks: TaskWorker | null; readonly messages: NodeMessages | null },
  onError: (error: unknown) => void,
): Promise<void> {
  const bounded = (ms: number, done: Promise<unknown> | undefined) =>
    within(ms, done ?? Promise.resolve()).catch(onError);
  messages?.hold();
  const tasksDone = tasks?.stop(LEAVE_MS);
  // A task that waits for a stitch ends when the stitch does, so both are
  // stopped at once. Stitches that are left after their grace are killed.
  const stitchesDone = async () => {
    await bounded(LEAVE_MS, parts?.host.stopAll(LEAVE_MS - KILL_MS));
    await bounded(KILL_MS, parts?.host.stopAll(0));
  };
  await Promise.all([bounded(LEAVE_MS + KILL_MS, tasksDone), stitchesDone()]);
  await bounded(KILL_MS, tasks?.idle());
  // After the stitches, so that a reader of a log sees their last lines.
  await messages?.stopReading(KILL_MS).catch(onError);
  await bounded(KILL_MS, parts?.outbox.stop());
  await messages?.delivery.stop(KILL_MS);
}
