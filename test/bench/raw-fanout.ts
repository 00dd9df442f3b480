import { Queue, QueueEvents } from "bullmq";
import { KEPT } from "../../src/queue/dispatcher.ts";

/** The raw queue of one node. */
export const rawQueue = (node: string): string => `raw-${node}`;

/** BullMQ with nothing around it: `addBulk` with a job for each step to a queue for each node, until all results are here. */
export async function rawFanOut(
  redisUrl: string,
  nodes: readonly string[],
): Promise<{ run: (nodes: readonly string[], steps: number) => Promise<void>; stop: () => Promise<void> }> {
  const connection = { host: "127.0.0.1", port: Number(new URL(redisUrl).port) };
  let left = 0;
  let done = () => {};
  const queues = new Map(nodes.map((node) => [node, new Queue(rawQueue(node), { connection })]));
  const ends = nodes.map((node) => new QueueEvents(rawQueue(node), { connection }));
  for (const each of ends) {
    each.on("completed", () => {
      left -= 1;
      if (left === 0) done();
    });
  }
  await Promise.all([...queues.values(), ...ends].map((each) => each.waitUntilReady()));
  return {
    run: async (on, steps) => {
      left = steps;
      const ended = new Promise<void>((resolve) => (done = resolve));
      const jobs = Array.from({ length: steps / on.length }, (_, index) => ({
        name: "stop",
        data: { stitch: `s${index}` },
        opts: { removeOnComplete: KEPT },
      }));
      await Promise.all(on.map(async (node) => queues.get(node)?.addBulk(jobs)));
      await ended;
    },
    stop: async () => {
      await Promise.all([...queues.values(), ...ends].map((each) => each.close()));
    },
  };
}
