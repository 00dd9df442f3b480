import type { JobRecord, Task } from "../../src/domain/job/job.ts";
import type { OpenMaster } from "../../src/master/open-master.ts";

/** The task that pings the node n1. */
export const PING_TASK: Task = {
  id: "t0",
  node: "n1",
  runs: "node",
  attempt: 1,
  wave: 0,
  steps: [{ action: "ping", stitch: null }],
  refused: null,
};

/** The record of a job that pings the node n1, as a Master would write it. Draws a revision, and writes nothing else. */
export async function pingJob({ redis, keys }: OpenMaster, id: string): Promise<JobRecord> {
  const nowMs = Date.now();
  return {
    id,
    command: "node.ping",
    target: "n1",
    options: {},
    asked: null,
    reason: null,
    by: null,
    master: "test",
    revision: await redis.incr(keys.revision),
    createdAtMs: nowMs,
    deadlineAtMs: nowMs + 60_000,
    waitForNode: false,
    orchestration: null,
    retryOf: null,
    rollbackOf: null,
    tasks: [PING_TASK],
  };
}

/** The outcome of a step that changed nothing, such as a ping. */
export const SUCCEEDED = {
  status: "succeeded",
  changed: false,
  startedAtMs: 1,
  finishedAtMs: 2,
  output: null,
  error: null,
} as const;
