import { TestCluster } from "../support/cluster.ts";
import { type DelayingProxy, openDelayingProxy, type RoundTrip, roundTrips } from "../support/delaying-proxy.ts";
import type { Bench } from "./bench.ts";
import { type EdgeApi, openEdge } from "./edge-api.ts";
import { registerMany } from "./many-nodes.ts";
import { median, table } from "./stats.ts";
import { join } from "node:path";

const MODULE = join(import.meta.dirname, "message-module.mjs");
/** A link across an ocean. */
const ROUND_TRIP_MS = 100;
const SPREAD = 1000;
const MANY = 3000;
const NAMES_OF_MOST = 6;
/** What opens a connection: how many round trips, no request can choose. */
const CONNECTING = new Set(["connect", "auth", "hello", "info", "client", "select", "config"]);

/** `aim`: at most so many round trips; on workerd, after connecting. */
type Asked = {
  readonly name: string;
  readonly aim: { readonly node: number; readonly edge: number };
  readonly path: string;
  readonly body?: () => object;
  /** Brings things into the state that the request needs, on the direct link. */
  readonly prepare?: () => Promise<unknown>;
  /** Does the job of the command end? Then the next request waits for that. */
  readonly ends?: boolean;
};

type Counted = {
  readonly trips: readonly RoundTrip[];
  readonly connecting: number;
  readonly farMs: number;
  readonly nearMs: number;
  readonly status: number;
};

type Api = { readonly name: "node" | "edge"; readonly proxy: DelayingProxy; readonly ask: EdgeApi["ask"] };

/**
 * Round trips to Redis, one upon another, that a request waits for, on a link with 100 ms: counted by the proxy (the lowest of
 * `rounds` counts), and as the time that the request takes longer than on the direct link.
 */
export async function countAll(bench: Bench): Promise<void> {
  const cluster = await new TestCluster(bench.redisUrl).start();
  bench.atEnd(() => cluster.stop());
  const apis = await openApis(bench, cluster);
  await cluster.node("n1", { STITCH_MODULES: `bench=${MODULE}` });
  const spec = { adaptor: "module", module: "bench", minHealthyMs: 0 };
  const made = await cluster.run({ command: "stitch.create", target: "bench.one.1", node: "n1", id: "one", spec });
  if (made.status !== "succeeded") throw new Error(`create: ${JSON.stringify(made)}`);
  await cluster.run({ command: "stitch.create", target: "bench.scaled.1", node: "n1", count: 2, spec });

  const rows = [
    ["request", "aim", "Node", "by time", "direct, ms", "aim", "workerd", "connecting", "by time", "direct, ms"],
  ];
  const slow: string[] = [];
  const count = async (asked: Asked) => {
    const cells: string[] = [];
    let told = 0;
    for (const api of apis) {
      const counted = await countOne(bench, cluster, api, asked);
      const { trips, connecting, farMs, nearMs, status } = counted;
      const after = trips.length - connecting;
      const aim = asked.aim[api.name];
      const failed = status < 300 ? "" : ` (${status})`;
      cells.push(`≤ ${aim}`, `${after}${failed}`, ...(api.name === "edge" ? [String(connecting)] : []));
      cells.push(((farMs - nearMs) / ROUND_TRIP_MS).toFixed(1), nearMs.toFixed(1));
      const line = `${asked.name}: ${trips.slice(connecting).map(described).join(" → ")}`;
      if (after > aim && after !== told) slow.push(line);
      told = after;
    }
    rows.push([asked.name, ...cells]);
  };

  for (const asked of [...commands(cluster, spec), ...lists("")]) await count(asked);
  const { redis, keys } = cluster.open;
  await registerMany(redis, keys, 0, SPREAD);
  await count(list("nodes", `, ${SPREAD} nodes`));
  await count(spreadOut());
  await registerMany(redis, keys, SPREAD, MANY);
  await count(list("nodes", `, ${MANY} nodes`));
  for (const asked of lists(`, ${MANY} nodes`)) await count(asked);

  bench.print("");
  bench.print(
    `round trips to Redis, one upon another, on a link with ${ROUND_TRIP_MS} ms; on workerd: after connecting, and for it; ` +
      "by time: with both",
  );
  bench.print(table(rows));
  if (slow.length > 0) bench.print("\nover the aim:");
  for (const line of slow) bench.print(line);
}

async function openApis({ redisUrl, atEnd }: Bench, cluster: TestCluster): Promise<readonly Api[]> {
  const link = async () => {
    const proxy = await openDelayingProxy(redisUrl, 0);
    atEnd(() => proxy.close());
    return proxy;
  };
  const [nodeLink, edgeLink] = [await link(), await link()];
  const { url } = await cluster.api({ REDIS_URL: nodeLink.url });
  const edge = await openEdge(edgeLink.url, cluster.name);
  atEnd(() => edge.close());
  return [
    { name: "node", proxy: nodeLink, ask: (path, init) => fetch(url + path, init) },
    { name: "edge", proxy: edgeLink, ask: edge.ask },
  ];
}

function commands(cluster: TestCluster, spec: object): Asked[] {
  const single = { node: 3, edge: 4 };
  const command = (name: string, body: () => object, more: Partial<Asked> = {}): Asked => ({
    name,
    aim: single,
    path: "/v1/commands?waitMs=0",
    body,
    ends: true,
    ...more,
  });
  let [made, scaled] = [0, 2];
  return [
    command("node.ping", () => ({ command: "node.ping", target: "n1" })),
    command("stitch.restart", () => ({ command: "stitch.restart", target: "one" })),
    command("stitch.stop", () => ({ command: "stitch.stop", target: "one" }), {
      prepare: () => cluster.run({ command: "stitch.start", target: "one" }),
    }),
    command("stitch.create", () => ({ command: "stitch.create", target: `bench.made.${(made += 1)}`, spec })),
    command("group.scale", () => ({ command: "group.scale", target: "bench.scaled.1", count: (scaled = 5 - scaled) })),
    {
      name: "message, ack",
      aim: { node: 4, edge: 4 },
      path: "/v1/messages",
      body: () => ({ to: { stitch: "one" }, data: "hello", expect: "ack" }),
      prepare: () => cluster.run({ command: "stitch.start", target: "one" }),
    },
  ];
}

/** Its job does not end: the nodes are in Redis only. */
function spreadOut(): Asked {
  let made = 0;
  const spec = { adaptor: "process", protocol: "none", command: ["true"] };
  return {
    name: `stitch.create of ${SPREAD}, on ${SPREAD} nodes`,
    aim: { node: 3, edge: 4 },
    path: "/v1/commands?waitMs=0",
    body: () => ({ command: "stitch.create", target: `bench.spread.${(made += 1)}`, count: SPREAD, spec }),
  };
}

const list = (of: string, where: string): Asked => ({
  name: `${of}${where}`,
  aim: { node: 2, edge: 2 },
  path: `/v1/${of}${of === "cluster" ? "" : "?limit=1000"}`,
});
const lists = (where: string) =>
  ["nodes", "stitches", "groups", "jobs", "events", "dead-letters", "cluster"]
    .filter((of) => where === "" || of !== "nodes")
    .map((of) => list(of, where));

async function countOne({ rounds }: Bench, cluster: TestCluster, { proxy, ask }: Api, asked: Asked): Promise<Counted> {
  let [least, status]: [readonly RoundTrip[] | null, number] = [null, 0];
  const times = { near: [] as number[], far: [] as number[] };
  const once = async (into: number[]): Promise<void> => {
    await asked.prepare?.();
    const body = asked.body?.();
    const fromMs = performance.now();
    let text = "";
    const trips = await roundTrips(proxy, async () => {
      const accept = { accept: "application/json" };
      const response = await ask(
        asked.path,
        body === undefined
          ? { headers: accept }
          : { method: "POST", headers: { ...accept, "content-type": "application/json" }, body: JSON.stringify(body) },
      );
      text = await response.text();
      status = response.status;
    });
    into.push(performance.now() - fromMs);
    if (into === times.far && (least === null || trips.length < least.length)) least = trips;
    const { id } = JSON.parse(text) as { id?: string };
    if (asked.ends === true && id !== undefined) await cluster.master.commands.job(id, 30_000);
  };
  // The first one pays for what later ones find done.
  await once([]);
  for (let round = 0; round < rounds; round++) await once(times.near);
  proxy.roundTripMs = ROUND_TRIP_MS;
  for (let round = 0; round < rounds; round++) await once(times.far);
  proxy.roundTripMs = 0;
  const trips: readonly RoundTrip[] = least ?? [];
  const first = trips.findIndex((names) => names.some((name) => !CONNECTING.has(name)));
  const connecting = first === -1 ? trips.length : first;
  return { trips, connecting, farMs: median(times.far), nearMs: median(times.near), status };
}

/** The commands of a round trip, each with how often, names of nodes and ids of jobs left out. */
function described(names: RoundTrip): string {
  const counts = new Map<string, number>();
  for (const name of names) {
    const short = name.replace(/cs:[^:]*:/, "").replace(/\{(node|job):[^}]*\}/, "{$1}");
    counts.set(short, (counts.get(short) ?? 0) + 1);
  }
  const all = [...counts].map(([name, count]) => (count === 1 ? name : `${name} ×${count}`));
  return all.length <= NAMES_OF_MOST
    ? all.join(", ")
    : `${all.slice(0, NAMES_OF_MOST).join(", ")} and ${all.length - NAMES_OF_MOST} more`;
}
