import assert from "node:assert/strict";
import { LateWork } from "../../src/master/jobs/late-work.ts";
import { JobService } from "../../src/master/jobs/job-service.ts";
import { TaskSender } from "../../src/master/jobs/task-sender.ts";
import { Observer } from "../../src/master/state/observer.ts";
import { Dispatcher } from "../../src/queue/dispatcher.ts";
import type { TestCluster } from "./cluster.ts";

/** The service with which a Master looks after jobs, on the test's own clock. */
export function testJobService({ open: { redis, keys }, errors }: TestCluster, nowMs: () => number): JobService {
  const common = {
    redis,
    keys,
    deciding: () => ({ mode: "leaderless", preferred: null, lease: null, election: null }) as const,
    dispatcher: new Dispatcher(redis, keys),
    nowMs,
    onUnreadable: assert.ifError,
  };
  return new JobService({
    ...common,
    late: new LateWork((error) => errors.push(error)),
    onHigherEpoch: () => assert.fail(),
    sender: new TaskSender(common),
    observer: new Observer({ redis, keys, deadAfterMs: 2000, onUnreadable: assert.ifError }),
    deadAfterMs: 2000,
    jobRetentionMs: 3_600_000,
    onLate: (error) => errors.push(error),
  });
}
