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

type WorkOptions = {
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

/** What a worker does once it has registered: it takes tasks and reads its inbox. */
export type Work = { readonly tasks: TaskWorker; readonly messages: NodeMessages };

/**
 * Call this once the node has registered. No task is taken before
 * `tasks.start`, and no entry is read before `messages.start`.
 */
export function openWork(parts: Parts, options: WorkOptions): Work {
  const { node, keys, connections, master, membership, hasEnded, nextBeat, say, onError } = options;
  const { host, registry, publisher, specs, outbox, disk } = parts;
  const incarnation = () => membership.incarnation;
  const nowMs = () => membership.redisNowMs();
  const tasks = new TaskWorker({
    blocking: connections.blocking,
    keys,
    node,
    disk,
    orders: master.orders,
    host,
    publisher,
    specs,
    incarnation,
    // A fenced worker must not act, even if its lease has not run out by its own clock.
    holdsId: () => membership.holdsId && !hasEnded(),
    learnEligibility: () => membership.learnEligibility(),
    nextBeat,
    nowMs,
    say,
    onError,
  });
  const messages = new NodeMessages({
    redis: connections.shared,
    openBlocking: () => connections.openBlocking(),
    keys,
    node,
    routing: master.routing,
    registry,
    outbox,
    incarnation,
    lastTaken: membership.lastTaken,
    holdsId: () => membership.holdsId,
    leaseLeftMs: () => membership.leaseLeftMs,
    nowMs,
    onError,
  });
  return { tasks, messages };
}

/**
 * Takes nothing more, stops the stitches, and waits until their outcomes, replies and logs are written. Each wait is
 * bounded; failures are reported. Never rejects.
 */
export async function finishWork(
  parts: Pick<Parts, "host" | "outbox"> | null,
  work: Work | null,
  onError: (error: unknown) => void,
): Promise<void> {
  const bounded = (ms: number, done: Promise<unknown> | undefined) =>
    within(ms, done ?? Promise.resolve()).catch(onError);
  work?.messages.hold();
  const tasksDone = work?.tasks.stop(LEAVE_MS);
  // A task that waits for a stitch ends when the stitch does, so both are
  // stopped at once. Stitches that are left after their grace are killed.
  const stitchesDone = async () => {
    await bounded(LEAVE_MS, parts?.host.stopAll(LEAVE_MS - KILL_MS));
    await bounded(KILL_MS, parts?.host.stopAll(0));
  };
  await Promise.all([bounded(LEAVE_MS + KILL_MS, tasksDone), stitchesDone()]);
  await bounded(KILL_MS, work?.tasks.idle());
  // After the stitches, so that a reader of a log sees their last lines.
  await work?.messages.stopReading(KILL_MS).catch(onError);
  await bounded(KILL_MS, parts?.outbox.stop());
  await work?.messages.delivery.stop(KILL_MS);
}
