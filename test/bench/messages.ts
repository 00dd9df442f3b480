import { join } from "node:path";
import { sendRequest } from "../../src/domain/message.ts";
import type { RedisClient } from "../../src/redis/connection/client.ts";
import type { Keys } from "../../src/redis/keys.ts";
import { locateStitch } from "../../src/redis/stitch/pointers.ts";
import { publishAsNode } from "../support/publish-test-stitch.ts";
import { stitchSpec } from "../../src/domain/stitch/spec.ts";
import { TestCluster } from "../support/cluster.ts";
import { testStitch } from "../support/test-stitch.ts";
import type { Bench } from "./bench.ts";
import { rawStreams } from "./raw-streams.ts";
import { measure, ms, over, ratio, table, type Timing, times } from "./stats.ts";

const MODULE = join(import.meta.dirname, "message-module.mjs");
const PROCESS = join(import.meta.dirname, "message-process.mjs");
const LOADS = [
  { concurrency: 1, count: 1000 },
  { concurrency: 256, count: 20_000 },
];
const GROUP_NODES = 10;
const GROUP_SIZE = 1000;
const SIZES = [100, 100_000];

/**
 * Messages between stitches, against a request and reply over two bare Redis streams. A request and its reply go between two
 * modules on two nodes in two processes; the module that asks measures the time. Each message is stored in the other node's
 * inbox and acknowledged there.
 */
export async function messages({ redisUrl, rounds, print, atEnd }: Bench): Promise<void> {
  const cluster = new TestCluster(redisUrl);
  atEnd(() => cluster.stop());
  await cluster.start();
  const modules = { STITCH_MODULES: `bench=${MODULE}` };
  const nodes = Array.from({ length: GROUP_NODES }, (_, index) => `n${index}`);
  for (const node of nodes) await cluster.node(node, modules);
  const spec = { adaptor: "module", module: "bench" };
  for (const [node, id] of [
    ["n0", "asker"],
    ["n1", "answerer"],
  ])
    await cluster.run({ command: "stitch.create", target: "bench.pair.1", node, id, spec });
  const process = { adaptor: "process", protocol: "process-v1", command: [globalThis.process.execPath, PROCESS] };
  await cluster.run({ command: "stitch.create", target: "bench.plain.1", node: "n1", id: "plain", spec: process });
  const raw = await rawStreams(redisUrl);
  atEnd(() => raw.stop());

  const told = async (channel: string, to: string, count: number, concurrency: number): Promise<Timing> => {
    const data = { to, count, concurrency };
    const { sent } = await cluster.master.routing.send(
      sendRequest.parse({ to: { stitch: "asker" }, channel, data, expect: "reply", timeoutMs: 60_000 }),
      null,
      "",
    );
    return JSON.parse(sent.deliveries[0]?.data ?? "null") as Timing;
  };

  await measure(64, 2000, raw.run);
  await told("ask", "answerer", 2000, 64);
  const rows = [["request and reply", "p50 ms", "p99 ms", "per second", "p50 ratio", "rate ratio"]];
  const row = (name: string, got: Timing[], base: Timing[] | null) => [
    name,
    ms(over(got, "p50")),
    ms(over(got, "p99")),
    over(got, "perSecond").toFixed(0),
    ...(base === null ? ["1", "1"] : (["p50", "perSecond"] as const).map((figure) => times(ratio(got, base, figure)))),
  ];
  let crowd: Timing[] = [];
  for (const { concurrency, count } of LOADS) {
    const base: Timing[] = [];
    const got: Timing[] = [];
    for (let round = 0; round < rounds; round++) {
      base.push(await measure(concurrency, count, raw.run));
      got.push(await told("ask", "answerer", count, concurrency));
    }
    crowd = base;
    rows.push(row(`two bare streams, ${concurrency} at once`, base, null));
    rows.push(row(`module to module, ${concurrency} at once`, got, base));
  }
  const flood: Timing[] = [];
  for (let round = 0; round < rounds; round++) flood.push(await told("flood", "plain", 5000, 100));
  rows.push([
    "one way to a process",
    "",
    "",
    over(flood, "perSecond").toFixed(0),
    "",
    times(ratio(flood, crowd, "perSecond")),
  ]);
  print(table(rows));

  for (const [index, node] of nodes.entries())
    await cluster.run({
      command: "stitch.create",
      target: "bench.crowd.1",
      node,
      count: GROUP_SIZE / GROUP_NODES,
      spec,
      deadlineMs: 60_000 + index,
    });
  const toGroup: Timing[] = [];
  const sendToGroup = async () => {
    const request = { to: { group: "bench.crowd.1" }, data: "hello", expect: "ack", timeoutMs: 60_000 };
    const { sent } = await cluster.master.routing.send(sendRequest.parse(request), null, "");
    const acked = sent.deliveries.filter(({ status }) => status === "replied" || status === "acked").length;
    if (acked !== GROUP_SIZE) throw new Error(`${acked} of ${GROUP_SIZE} acknowledged`);
  };
  await sendToGroup();
  const baseForGroup: Timing[] = [];
  for (let round = 0; round < rounds; round++) {
    baseForGroup.push(await measure(GROUP_SIZE, GROUP_SIZE, raw.run));
    toGroup.push(await measure(1, 5, sendToGroup));
  }
  const deliveries = toGroup.map((timing) => ({ ...timing, perSecond: timing.perSecond * GROUP_SIZE }));
  print("");
  print(
    table([
      ["a group", "p50 ms", "deliveries per second", "rate ratio to bare streams"],
      [
        `${GROUP_SIZE} stitches on ${GROUP_NODES} nodes`,
        ms(over(toGroup, "p50")),
        over(deliveries, "perSecond").toFixed(0),
        times(ratio(deliveries, baseForGroup, "perSecond")),
      ],
    ]),
  );
  await lookups(cluster, rounds, print);
}

/** Finds the node of a stitch by its bare id, among few stitches and among many. */
async function lookups(cluster: TestCluster, rounds: number, print: (line: string) => void): Promise<void> {
  const { redis, keys } = cluster.open;
  const rows = [["a look-up", "p50 ms", "p99 ms", "p50 ratio to the first"]];
  let registered = 0;
  const first: Timing[] = [];
  for (const size of SIZES) {
    await registerStitches(redis, keys, registered, size);
    registered = size;
    const got: Timing[] = [];
    for (let round = 0; round < rounds; round++)
      got.push(await measure(1, 500, (index) => locateStitch(redis, keys, `far-${(index * 7919) % size}`)));
    if (first.length === 0) first.push(...got);
    rows.push([`among ${size}`, ms(over(got, "p50")), ms(over(got, "p99")), times(ratio(got, first, "p50"))]);
  }
  print("");
  print(table(rows));
}

async function registerStitches(redis: RedisClient, keys: Keys, from: number, to: number): Promise<void> {
  const status = { reserved: { cpu: 0, memoryBytes: 0 }, stitchCount: 0, states: {}, eligibility: "eligible" as const };
  for (let at = from; at < to; at += 1000) {
    const changes = Array.from({ length: Math.min(1000, to - at) }, (_, index) => ({
      kind: "set" as const,
      isNew: true,
      record: testStitch(`far-${at + index}`, {
        group: `bench.far.${Math.floor((at + index) / 10_000)}`,
        spec: stitchSpec.parse({ adaptor: "module", module: "bench" }),
        desired: "running",
        state: "running",
      }),
    }));
    await publishAsNode(redis, keys, `far${Math.floor(at / 1000)}`, changes, status);
  }
}
