// Many nodes in one process, each with its own connections, disk and watchdog. Beside them runs the raw BullMQ baseline, with a
// queue and a worker for each node.
//   node fanout-nodes.ts PORT NODE…      sends "ready" to its parent; ends with it
import { Worker } from "bullmq";
import { loadConfig } from "../../src/config.ts";
import { KEPT } from "../../src/queue/dispatcher.ts";
import { startNode } from "../../workers/node/main.ts";
import { CONCURRENCY } from "./raw-bullmq.ts";
import { rawQueue } from "./raw-fanout.ts";

const [port, ...nodes] = process.argv.slice(2);
const ended = new Promise((resolve) => process.once("disconnect", resolve));
const running = [];
// One after the other: each start blocks the event loop, and fifty at once would cost the first node its lease.
for (const id of nodes) running.push(await startNode(loadConfig({ ...process.env, STITCH_NODE_ID: id })));
const workers = nodes.map(
  (id) =>
    new Worker(rawQueue(id), async () => "done", {
      connection: { host: "127.0.0.1", port: Number(port), maxRetriesPerRequest: null },
      concurrency: CONCURRENCY,
      removeOnComplete: KEPT,
    }),
);
for (const worker of workers) worker.on("error", (error) => process.stderr.write(`${error.message}\n`));
await Promise.all(workers.map((worker) => worker.waitUntilReady()));
process.send?.("ready");
await ended;
await Promise.all([...running.map((node) => node.stop()), ...workers.map((worker) => worker.close())]);
process.exit();
