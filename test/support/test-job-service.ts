import assert from "node:assert/strict";
import { JobService } from "../../src/master/jobs/job-service.ts";
import { Observer } from "../../src/master/state/observer.ts";
import { Dispatcher } from "../../src/queue/dispatcher.ts";
import type { TestCluster } from "./cluster.ts";

/** The service with which a Master looks after jobs, on the test's own clock. */
export function testJobService({ open: { redis, keys }, errors }: TestCluster, nowMs: () => number): JobService {
  return new JobService({
    redis,
    keys,
    chosen: { mode: "leaderless", preferred: null },
    mayDecide: () => true,
    dispatcher: new Dispatcher(redis, keys),
    observer: new Observer({ redis, keys, deadAfterMs: 2000, onUnreadable: assert.ifError }),
    deadAfterMs: 2000,
    jobRetentionMs: 3_600_000,
    nowMs,
    onLate: (error) => errors.push(error),
    onUnreadable: assert.ifError,
  });
}
