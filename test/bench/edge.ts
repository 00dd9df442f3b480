import { TestCluster } from "../support/cluster.ts";
import { bundleEdge } from "../support/edge-bundle.ts";
import { memoryAtRest } from "./at-rest.ts";
import type { Bench } from "./bench.ts";
import { type EdgeApi, openEdge } from "./edge-api.ts";
import { countAll } from "./round-trips.ts";
import { median, ms, table } from "./stats.ts";

const FRESH = 5;
const WARM_UP = 20;
const WARM = 100;
const AIM_MS = 50;

const REQUESTS = [
  { name: "node.ping", path: "/v1/commands?waitMs=0", body: JSON.stringify({ command: "node.ping", target: "n1" }) },
  { name: "nodes", path: "/v1/nodes", body: null },
] as const;
type Request = (typeof REQUESTS)[number];

/**
 * The API on Node and on workerd, side by side: what is deployed to the edge, latencies of the first request and of later ones,
 * memory at rest, and round trips to Redis on a slow link.
 */
export async function edge(bench: Bench): Promise<void> {
  const { bytes, gzippedBytes } = await bundleEdge();
  bench.print(
    `edge bundle: ${(bytes / 1000).toFixed(0)} kB, ${(gzippedBytes / 1000).toFixed(1)} kB gzipped (aim: 230)`,
  );
  bench.print("");
  await latencies(bench);
  await memoryAtRest(bench);
  await countAll(bench);
}

async function latencies({ redisUrl, print, atEnd }: Bench): Promise<void> {
  const cluster = await new TestCluster(redisUrl).start();
  atEnd(() => cluster.stop());
  await cluster.node("n1");
  const onNode = async (): Promise<EdgeApi> => {
    const { part, url } = await cluster.api();
    return { ask: (path, init) => fetch(url + path, init), close: async () => void (await part.kill("SIGTERM")) };
  };
  const backends = [
    { name: "Node", open: onNode },
    { name: "workerd", open: () => openEdge(redisUrl, cluster.name) },
  ];
  const rows = [["latency, ms", "first, median", "warm, p50", `first over warm (aim: ${AIM_MS})`]];
  for (const request of REQUESTS)
    for (const { name, open } of backends) {
      const first: number[] = [];
      const warm: number[] = [];
      for (let fresh = 0; fresh < FRESH; fresh++) {
        const api = await open();
        try {
          first.push(await timed(api, request));
          for (let count = 0; count < WARM_UP; count++) await timed(api, request);
          for (let count = 0; count < WARM / FRESH; count++) warm.push(await timed(api, request));
        } finally {
          await api.close();
        }
      }
      const [firstMs, warmMs] = [median(first), median(warm)];
      rows.push([`${request.name}, ${name}`, ms(firstMs), ms(warmMs), ms(firstMs - warmMs)]);
    }
  print(table(rows));
  await cluster.stop();
}

async function timed(api: EdgeApi, { name, path, body }: Request): Promise<number> {
  const fromMs = performance.now();
  const response = await api.ask(
    path,
    body === null ? {} : { method: "POST", headers: { "content-type": "application/json" }, body },
  );
  const text = await response.text();
  if (response.status >= 300) throw new Error(`${name}: ${response.status} ${text}`);
  return performance.now() - fromMs;
}
