import { TestCluster } from "../support/cluster.ts";
import type { Bench } from "./bench.ts";
import { HttpClient } from "./http-client.ts";
import { rawBullMq } from "./raw-bullmq.ts";
import { measure, ms, over, ratio, table, type Timing, times } from "./stats.ts";

const WARM_UP = 200;
const LOADS = [
  { concurrency: 1, count: 500 },
  { concurrency: 100, count: 5000 },
];

/** `node.ping` over HTTP, from request to outcome, with real processes, against a BullMQ job from `add` to its result. */
export async function ping({ redisUrl, rounds, print, atEnd }: Bench): Promise<void> {
  const cluster = new TestCluster(redisUrl);
  atEnd(() => cluster.stop());
  await cluster.start();
  const [{ url }] = await Promise.all([cluster.api(), cluster.node("n1")]);
  const http = new HttpClient(url, 100);
  atEnd(async () => http.close());
  const raw = await rawBullMq(redisUrl);
  atEnd(() => raw.stop());

  const body = JSON.stringify({ command: "node.ping", target: "n1" });
  const ours = async (): Promise<void> => {
    const job = JSON.parse(await http.ask("POST", "/v1/commands?waitMs=5000", body)) as { status: string };
    if (job.status !== "succeeded") throw new Error(`a ping ended ${JSON.stringify(job)}`);
  };

  for (const work of [raw.run, ours]) {
    await measure(1, WARM_UP, work);
    await measure(100, WARM_UP * 5, work);
  }
  const rows = [["ping", "p50 ms", "p99 ms", "per second", "p50 ratio", "p99 ratio", "rate ratio"]];
  for (const { concurrency, count } of LOADS) {
    const base: Timing[] = [];
    const got: Timing[] = [];
    for (let round = 0; round < rounds; round++) {
      base.push(await measure(concurrency, count, raw.run));
      got.push(await measure(concurrency, count, ours));
    }
    const cells = (of: Timing[]) => [ms(over(of, "p50")), ms(over(of, "p99")), over(of, "perSecond").toFixed(0)];
    rows.push(
      [`raw BullMQ, ${concurrency} at once`, ...cells(base), "1", "1", "1"],
      [
        `node.ping, ${concurrency} at once`,
        ...cells(got),
        ...(["p50", "p99", "perSecond"] as const).map((figure) => times(ratio(got, base, figure))),
      ],
    );
  }
  print(table(rows));
}
