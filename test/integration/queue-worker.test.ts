// A worker of a queue that is told to stop at the moment when an entry comes.
import assert from "node:assert/strict";
import { test } from "node:test";
import { Queue } from "bullmq";
import * as z from "zod";
import { LATE, orLate } from "../../src/bounded-wait.ts";
import { QUEUE } from "../../src/redis/keys.ts";
import { QueueWorker } from "../../src/queue/queue-worker.ts";
import { connectRedis, openRedis } from "../../src/redis/connection/connection.ts";
import { REDISES } from "../support/cluster.ts";

const GRACE_MS = 20_000;
/** A worker that runs nothing has cut its connections by then. */
const CUT_MS = 3000;

test("an entry that was fetched but does not run yet when the worker is told to stop has its grace", async () => {
  const url = REDISES[0]?.url ?? "";
  const prefix = `queue-worker-${process.pid}`;
  const [shared, redis] = [openRedis(url, "shared", assert.ifError), openRedis(url, "blocking", assert.ifError)];
  await connectRedis(shared, 10_000);
  const told = Promise.withResolvers<{ readonly stopped: Promise<void> }>();
  const work = Promise.withResolvers<void>();
  let hasEnded = false;
  const worker = new QueueWorker({
    redis,
    prefix,
    concurrency: 1,
    // The entry is checked after it was fetched, and before it runs.
    schema: z.object({}).refine(() => {
      told.resolve({ stopped: worker.stop(GRACE_MS) });
      return true;
    }),
    run: async () => {
      await work.promise;
      hasEnded = true;
    },
    onError: assert.ifError,
  });
  const queue = new Queue(QUEUE, { connection: shared, prefix, skipVersionCheck: true });
  try {
    await worker.start(assert.ifError);
    await queue.add("entry", {});
    const { stopped } = await told.promise;
    assert.equal(await orLate(stopped, CUT_MS), LATE, "it waits for the entry");
    work.resolve();
    await stopped;
    assert.ok(hasEnded);
    assert.equal(await queue.getCompletedCount(), 1, "and has told of its end");
  } finally {
    await queue.obliterate({ force: true });
    for (const each of [shared, redis]) each.disconnect();
  }
});
