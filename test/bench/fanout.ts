import { fork } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { readProcess } from "../../workers/node/processes/process-table.ts";
import type { CommandName } from "../../src/domain/commands/command-names.ts";
import { TestCluster } from "../support/cluster.ts";
import type { Bench } from "./bench.ts";
import { rawFanOut } from "./raw-fanout.ts";
import { median, table, times } from "./stats.ts";

const MODULE = join(import.meta.dirname, "fanout-module.mjs");
const NODES_MAIN = join(import.meta.dirname, "fanout-nodes.ts");
/** Each of these processes runs a share of the nodes. A process for each node would measure the machine's scheduler. */
const PROCESSES = 2;
const NODES = Array.from({ length: 100 }, (_, index) => `n${index}`);
const SIZES = [
  { steps: 1000, nodes: NODES.slice(0, 10) },
  { steps: 1000, nodes: NODES },
  { steps: 10_000, nodes: NODES.slice(0, 10) },
  { steps: 10_000, nodes: NODES },
];
const REST_MS = 5000;
const LIMIT_MS = 60_000;
const KINDS = ["addBulk", "group.stop", "group.start"] as const;

/** The milliseconds that one run took, and the CPU milliseconds of the Master, the nodes and Redis. */
type Cost = { readonly ms: number; readonly master: number; readonly nodes: number; readonly redis: number };
type Kind = (typeof KINDS)[number];

/**
 * Stops and starts whole groups, against raw BullMQ with one job for each stitch. The BullMQ workers run in the nodes'
 * processes, each with as many jobs at once as a node takes. 100 nodes send heartbeats all the time.
 */
export async function fanout({ redisUrl, rounds, print, atEnd }: Bench): Promise<void> {
  const cluster = new TestCluster(redisUrl);
  atEnd(() => cluster.stop());
  await cluster.start();
  const children = Array.from({ length: PROCESSES }, (_, index) => {
    const own = NODES.filter((_, at) => at % PROCESSES === index);
    const env = cluster.env({
      STITCH_MODULES: `bench=${MODULE}`,
      STITCH_ROLES: "node",
      STITCH_STATE_DIR: join(cluster.dir, "state"),
      STITCH_LOG_LEVEL: "warn",
    });
    return fork(NODES_MAIN, [new URL(redisUrl).port, ...own], { env });
  });
  atEnd(async () => {
    const running = children.filter(({ exitCode, signalCode }) => exitCode === null && signalCode === null);
    const exits = running.map((child) => once(child, "exit"));
    for (const child of running) child.disconnect();
    await Promise.all(exits);
  });
  await Promise.all(children.map((child) => once(child, "message")));
  const raw = await rawFanOut(redisUrl, NODES);
  atEnd(() => raw.stop());

  const cpu = async () => {
    const { user, system } = process.cpuUsage();
    const used = /used_cpu_sys:([\d.]+)\s+used_cpu_user:([\d.]+)/.exec(await cluster.open.redis.info("cpu"));
    return {
      master: (user + system) / 1000,
      nodes: children.reduce((sum, { pid }) => sum + (readProcess(pid ?? 0)?.cpuMs ?? Number.NaN), 0),
      redis: (Number(used?.[1]) + Number(used?.[2])) * 1000,
    };
  };
  const measured = async (work: () => Promise<unknown>): Promise<Cost> => {
    const before = await cpu();
    const fromMs = performance.now();
    await work();
    const ms = performance.now() - fromMs;
    const after = await cpu();
    return {
      ms,
      master: after.master - before.master,
      nodes: after.nodes - before.nodes,
      redis: after.redis - before.redis,
    };
  };
  // Nodes send heartbeats and all that waits polls; what that takes is not part of a step.
  const rest = await measured(() => new Promise((resolve) => setTimeout(resolve, REST_MS)));
  const beyondRest = (cost: Cost): Cost => {
    const part = cost.ms / rest.ms;
    return {
      ms: cost.ms,
      master: cost.master - part * rest.master,
      nodes: cost.nodes - part * rest.nodes,
      redis: cost.redis - part * rest.redis,
    };
  };
  const command = async (name: CommandName, target: string, more: Record<string, unknown> = {}) => {
    const job = await cluster.run({ command: name, target, deadlineMs: LIMIT_MS, ...more }, null, LIMIT_MS);
    if (job.status !== "succeeded") throw new Error(`${name}: ${job.status} ${JSON.stringify(job.counts)}`);
    return job;
  };

  const rows = [
    ["steps", "per second", "ratio", "µs a step", "to the first", "CPU: Master", "nodes", "Redis", "ratio"],
  ];
  const first = new Map<Kind, number>();
  for (const { steps, nodes } of SIZES) {
    const target = `bench.fanout.${steps}-${nodes.length}`;
    const spec = { adaptor: "module", module: "bench" };
    const create = (node: string) => command("stitch.create", target, { node, count: steps / nodes.length, spec });
    for (let at = 0; at < nodes.length; at += 10) await Promise.all(nodes.slice(at, at + 10).map(create));
    const whole = async (name: "group.stop" | "group.start") => {
      const { counts } = await command(name, target);
      if (counts.succeeded !== steps) throw new Error(`${name}: ${counts.succeeded} of ${steps}`);
    };
    const work: Record<Kind, () => Promise<void>> = {
      addBulk: () => raw.run(nodes, steps),
      "group.stop": () => whole("group.stop"),
      "group.start": () => whole("group.start"),
    };
    const costs: Record<Kind, Cost[]> = { addBulk: [], "group.stop": [], "group.start": [] };
    // The first round of all only warms the code up; it is not counted.
    for (let round = first.size === 0 ? -1 : 0; round < rounds; round++) {
      for (const kind of KINDS) {
        const cost = beyondRest(await measured(work[kind]));
        if (round >= 0) costs[kind].push(cost);
      }
    }
    for (const kind of KINDS) {
      const ofStep = (figure: keyof Cost) => (1000 * median(costs[kind].map((cost) => cost[figure]))) / steps;
      const ratio = (figure: (cost: Cost) => number) => {
        const ratios = costs[kind].map((cost, round) => figure(costs.addBulk[round] ?? cost) / figure(cost));
        return kind === "addBulk" ? "1" : times(median(ratios));
      };
      if (!first.has(kind)) first.set(kind, ofStep("ms"));
      rows.push([
        `${kind}, ${steps} on ${nodes.length} nodes`,
        (1e6 / ofStep("ms")).toFixed(0),
        ratio(({ ms }) => ms),
        ofStep("ms").toFixed(0),
        times(ofStep("ms") / (first.get(kind) ?? Number.NaN)),
        ...(["master", "nodes", "redis"] as const).map((figure) => ofStep(figure).toFixed(0)),
        ratio(({ master, nodes: ofNodes, redis }) => master + ofNodes + redis),
      ]);
    }
    await command("group.remove", target);
  }
  print(table(rows));
  const { items } = await cluster.master.state.nodes({ cursor: null, limit: 1000 }, {});
  const lost = items.filter(({ liveness, incarnation }) => liveness !== "alive" || incarnation > 1);
  const leases =
    lost.length === 0 ? "no lease was lost" : `the lease was lost by ${lost.map(({ id }) => id).join(", ")}`;
  const atRest = (["nodes", "redis"] as const).map((figure) => ((1000 * rest[figure]) / rest.ms).toFixed(0));
  print("CPU: µs a step beyond what all take at rest; its ratio hardly depends on what else the machine does.");
  print(
    `${items.length} nodes in ${PROCESSES} processes: ${leases}; at rest they take ${atRest[0]} ms of CPU a second, Redis ${atRest[1]}.`,
  );
}
