// The worker of the raw BullMQ baseline, in its own process: takes jobs and does nothing.
//   node bullmq-worker.ts PORT QUEUE CONCURRENCY      sends "ready" to its parent; ends with it
import { Worker } from "bullmq";
import { KEPT } from "../../src/queue/dispatcher.ts";

const [port, queue = "", concurrency] = process.argv.slice(2);
const worker = new Worker(queue, async () => "done", {
  connection: { host: "127.0.0.1", port: Number(port), maxRetriesPerRequest: null },
  concurrency: Number(concurrency),
  removeOnComplete: KEPT,
});
worker.on("error", (error) => process.stderr.write(`${error.message}\n`));
process.once("disconnect", () => process.exit());
await worker.waitUntilReady();
process.send?.("ready");
