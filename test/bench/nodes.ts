import { Redis } from "ioredis";
import { TestCluster } from "../support/cluster.ts";
import type { Bench } from "./bench.ts";
import { HttpClient } from "./http-client.ts";
import { nodeName, registerMany } from "./many-nodes.ts";
import { measure, ms, over, ratio, table, type Timing, times } from "./stats.ts";

const PAGE = 1000;
const SIZES = [PAGE, 10_000];
const COUNT = 50;
const WARM_UP = 20;

/** A page of a thousand nodes over HTTP against a pipelined HGETALL of a thousand hashes that hold the same. */
export async function nodes({ redisUrl, rounds, print, atEnd }: Bench): Promise<void> {
  const cluster = new TestCluster(redisUrl);
  atEnd(() => cluster.stop());
  await cluster.start();
  const { url } = await cluster.api();
  const { redis, keys } = cluster.open;
  const http = new HttpClient(url, 1);
  const client = new Redis(redisUrl);
  atEnd(async () => {
    http.close();
    client.disconnect();
  });

  let bytes = 0;
  const ours = async (): Promise<void> => {
    const text = await http.ask("GET", `/v1/nodes?limit=${PAGE}`);
    bytes = text.length;
    const { items } = JSON.parse(text) as { items: unknown[] };
    if (items.length !== PAGE) throw new Error(`a page of ${items.length} nodes`);
  };
  const raw = async (): Promise<void> => {
    const pipeline = client.pipeline();
    for (let index = 0; index < PAGE; index++) pipeline.hgetall(`raw:${index}`);
    if ((await pipeline.exec())?.length !== PAGE) throw new Error("not all hashes were read");
  };

  const rows = [["nodes", "p50 ms", "p99 ms", "p50 ratio", "p99 ratio"]];
  let registered = 0;
  for (const size of SIZES) {
    await registerMany(redis, keys, registered, size);
    if (registered === 0) await copyAsHashes();
    registered = size;
    const base: Timing[] = [];
    const got: Timing[] = [];
    await measure(1, WARM_UP, raw);
    await measure(1, WARM_UP, ours);
    for (let round = 0; round < rounds; round++) {
      base.push(await measure(1, COUNT, raw));
      got.push(await measure(1, COUNT, ours));
    }
    const cells = (of: Timing[]) => [ms(over(of, "p50")), ms(over(of, "p99"))];
    rows.push(
      [`raw HGETALL of ${PAGE}`, ...cells(base), "1", "1"],
      [
        `GET /v1/nodes, ${size} nodes`,
        ...cells(got),
        ...(["p50", "p99"] as const).map((figure) => times(ratio(got, base, figure))),
      ],
    );
  }
  print(table(rows));
  print(`A page is ${PAGE} nodes, ${(bytes / 1024).toFixed(0)} KiB of JSON.`);

  /** Copies what Redis holds of each node into one hash. */
  async function copyAsHashes(): Promise<void> {
    for (let index = 0; index < PAGE; index++) {
      const id = nodeName(index);
      const [meta, status] = await Promise.all([redis.hgetall(keys.nodeMeta(id)), redis.hgetall(keys.nodeStatus(id))]);
      await redis.hset(`raw:${index}`, { ...meta, ...status });
    }
  }
}
