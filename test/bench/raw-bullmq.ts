import { fork } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { Queue, QueueEvents } from "bullmq";
import { KEPT } from "../../src/queue/dispatcher.ts";

/** As many jobs at once as a node takes (workers/node/node-worker.ts). */
export const CONCURRENCY = 64;
const QUEUE = "raw";

/** BullMQ with nothing around it: add here, process in another process, see the result here. */
export async function rawBullMq(redisUrl: string): Promise<{ run: () => Promise<unknown>; stop: () => Promise<void> }> {
  const { port } = new URL(redisUrl);
  const child = fork(join(import.meta.dirname, "bullmq-worker.ts"), [port, QUEUE, String(CONCURRENCY)]);
  const exited = once(child, "exit");
  const connection = { host: "127.0.0.1", port: Number(port) };
  const queue = new Queue(QUEUE, { connection });
  const ends = new QueueEvents(QUEUE, { connection });
  // Each wait adds a listener for the close of both.
  queue.setMaxListeners(0);
  ends.setMaxListeners(0);
  await Promise.all([once(child, "message"), queue.waitUntilReady(), ends.waitUntilReady()]);
  return {
    run: async () => {
      const job = await queue.add("ping", { target: "n1" }, { removeOnComplete: KEPT });
      return job.waitUntilFinished(ends, 10_000);
    },
    stop: async () => {
      await Promise.all([queue.close(), ends.close()]);
      child.kill("SIGKILL");
      await exited;
    },
  };
}
