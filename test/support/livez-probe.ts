// A thread that asks an API's /livez all the time, beside a thread that is busy. When it is told to end, it says how long the
// slowest answer took, and how late its own timers were: that part is the machine's.
import { parentPort, workerData } from "node:worker_threads";

const EVERY_MS = 50;
/** The limit for one answer. Beyond it, the API counts as stopped. */
const GIVE_UP_MS = 10_000;

export type Probed = { readonly answers: number; readonly slowestMs: number; readonly latestMs: number };

const { url } = workerData as { url: string };
let ended = false;
parentPort?.once("message", () => {
  ended = true;
});
let answers = 0;
let slowestMs = 0;
let latestMs = 0;
while (!ended) {
  const startedAtMs = performance.now();
  const status = await fetch(`${url}/livez`, { signal: AbortSignal.timeout(GIVE_UP_MS) }).then(
    async (response) => {
      await response.arrayBuffer();
      return response.status;
    },
    () => null,
  );
  const tookMs = status === 200 ? performance.now() - startedAtMs : GIVE_UP_MS;
  slowestMs = Math.max(slowestMs, tookMs);
  answers += 1;
  const dueAtMs = performance.now() + EVERY_MS;
  await new Promise((resolve) => setTimeout(resolve, EVERY_MS));
  latestMs = Math.max(latestMs, performance.now() - dueAtMs);
}
parentPort?.postMessage({ answers, slowestMs, latestMs } satisfies Probed);
