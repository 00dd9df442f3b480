import { Redis } from "ioredis";
import { connectRedis, openRedis } from "../../src/redis/connection/connection.ts";
import { Keys } from "../../src/redis/keys.ts";
import type { Bench } from "./bench.ts";
import { beatTestNode, nodeName, registerMany } from "./many-nodes.ts";
import { measure, ms, over, ratio, table, type Timing, times } from "./stats.ts";
import { Wire } from "./wire.ts";

const SIZES = [1, 10_000];
const COUNT = 3000;
const COUNTED = 100;

/** One heartbeat against a PING, with few nodes and with many; each heartbeat is of the next node in turn. */
export async function heartbeat({ redisUrl, rounds, print, atEnd }: Bench): Promise<void> {
  const keys = new Keys("bench-heartbeat");
  const raw = new Redis(redisUrl);
  const shared = openRedis(redisUrl, "shared", report);
  const wire = new Wire(redisUrl);
  const counted = openRedis(await wire.listen(), "shared", report);
  atEnd(async () => {
    for (const one of [raw, shared, counted]) one.disconnect();
    wire.close();
  });
  await Promise.all([connectRedis(shared, 5000), connectRedis(counted, 5000)]);

  const rows = [["heartbeat", "p50 ms", "p99 ms", "per second", "p50 ratio", "round trips", "commands"]];
  let registered = 0;
  for (const size of SIZES) {
    await registerMany(shared, keys, registered, size);
    registered = size;
    const beat = (index: number) => beatTestNode(shared, keys, nodeName(index % size));
    const base: Timing[] = [];
    const got: Timing[] = [];
    await measure(1, COUNT, beat);
    await measure(1, COUNT, () => raw.ping());
    for (let round = 0; round < rounds; round++) {
      base.push(await measure(1, COUNT, () => raw.ping()));
      got.push(await measure(1, COUNT, beat));
    }
    // The first heartbeat of a connection also sends the script, so only the later ones are counted.
    await beatTestNode(counted, keys, nodeName(0));
    const before = { roundTrips: wire.roundTrips, commands: wire.commands };
    for (let index = 0; index < COUNTED; index++) await beatTestNode(counted, keys, nodeName(index % size));
    const cells = (of: Timing[]) => [ms(over(of, "p50")), ms(over(of, "p99")), over(of, "perSecond").toFixed(0)];
    rows.push(
      ["raw PING", ...cells(base), "1", "1", "1"],
      [
        `beatNode, ${size} nodes`,
        ...cells(got),
        times(ratio(got, base, "p50")),
        ((wire.roundTrips - before.roundTrips) / COUNTED).toFixed(2),
        ((wire.commands - before.commands) / COUNTED).toFixed(2),
      ],
    );
  }
  print(table(rows));
  print(
    `Round trips and commands: per heartbeat, counted over ${COUNTED} by a TCP proxy on a connection of their own.`,
  );
}

const report = (error: unknown): void => {
  process.stderr.write(`${String(error)}\n`);
};
