// A worker of a queue that is told to stop at the moment when an entry comes.
import assert from "node:assert/strict";
import { test } from "node:test";
import { Queue } from "bullmq";
import * as z from "zod";
import { QUEUE } from "../../src/redis/keys.ts";
import { QueueWorker } from "../../src/queue/queue-worker.ts";
import { connectRedis, openRedis } from "../../src/redis/connection/connection.ts";
import { REDISES } from "../support/cluster.ts";

const WORKERS = 20;
const RUN_MS = 1500;
const GRACE_MS = 10_000;

test("what has begun to run when the worker stops has ended when it has stopped", async () => {
  const url = REDISES[0]?.url ?? "";
  const shared = openRedis(url, "shared", assert.ifError);
  await connectRedis(shared, 10_000);
  let begun = 0;
  await Promise.all(
    Array.from({ length: WORKERS }, async (_, at) => {
      const prefix = `queue-worker-${process.pid}-${at}`;
      const redis = openRedis(url, "blocking", assert.ifError);
      let running = 0;
      const worker = new QueueWorker({
        redis,
        prefix,
        concurrency: 1,
        schema: z.object({}),
        run: async () => {
          begun += 1;
          running += 1;
          await new Promise((resolve) => setTimeout(resolve, RUN_MS));
          running -= 1;
        },
        onError: assert.ifError,
      });
      const queue = new Queue(QUEUE, { connection: shared, prefix, skipVersionCheck: true });
      try {
        await worker.start(assert.ifError);
        await queue.add("entry", {});
        // Some entries have begun to run, some have just been fetched, some are not fetched any more.
        await new Promise((resolve) => setTimeout(resolve, at % 5));
        await worker.stop(GRACE_MS);
        assert.equal(running, 0, `worker ${at}`);
      } finally {
        await queue.obliterate({ force: true });
        redis.disconnect();
      }
    }),
  );
  shared.disconnect();
  assert.ok(begun > 0, "no entry was taken");
});
