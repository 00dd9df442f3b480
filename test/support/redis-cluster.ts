import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { Redis } from "ioredis";
import { freePort, type LocalRedis, startLocalRedis } from "../../src/cli/processes/local-redis.ts";
import { waitUntil } from "../../src/cli/processes/wait-until.ts";

const SLOTS = 16_384;
const HOST = "127.0.0.1";
/** A cluster node listens for the others at its port + 10000. */
const BUS_OFFSET = 10_000;
const FORM_LIMIT_MS = 30_000;
const PORT_TRIES = 50;

export type LocalCluster = {
  /** `redis+cluster://127.0.0.1:p1,127.0.0.1:p2,…` */
  readonly url: string;
  /** For faults: a test can stop or kill one of them. */
  readonly masters: readonly LocalRedis[];
  /** May be called twice and at once. */
  stop(): Promise<void>;
};

/**
 * A real Redis Cluster of masters without replicas, on free ports of the loopback address, in new folders under `dir`.
 * Resolves when every one of them says that the cluster is up. If that fails, the masters that were started are stopped.
 */
export async function startLocalCluster(options: {
  dir: string;
  masters: number;
  settings?: Readonly<Record<string, string>>;
}): Promise<LocalCluster> {
  const masters: LocalRedis[] = [];
  const stop = async (): Promise<void> => {
    await Promise.all(masters.map((master) => master.stop()));
  };
  try {
    for (let index = 0; index < options.masters; index++) {
      masters.push(await startMaster(join(options.dir, `master-${index}`), options.settings ?? {}));
    }
    await form(masters.map(({ url }) => Number(new URL(url).port)));
  } catch (error) {
    await stop();
    throw error;
  }
  const hosts = masters.map(({ url }) => new URL(url).host);
  return { url: `redis+cluster://${hosts.join(",")}`, masters, stop };
}

async function startMaster(dir: string, settings: Readonly<Record<string, string>>): Promise<LocalRedis> {
  await mkdir(dir, { recursive: true });
  return await startLocalRedis({
    dir,
    port: await freePortWithBus(),
    settings: {
      "cluster-enabled": "yes",
      "cluster-config-file": "nodes.conf",
      "cluster-node-timeout": "30000",
      ...settings,
    },
  });
}

/** Both ports are below those that the system hands out itself (from 32768 on), so that neither is taken in the meantime. */
async function freePortWithBus(): Promise<number> {
  for (let left = PORT_TRIES; left > 0; left--) {
    const port = 12_000 + Math.floor(Math.random() * 10_000);
    const both = [port, port + BUS_OFFSET].map((one) => freePort(HOST, one));
    if ((await Promise.allSettled(both)).every(({ status }) => status === "fulfilled")) return port;
  }
  throw new Error("no free pair of ports for a cluster node");
}

async function form(ports: readonly number[]): Promise<void> {
  const clients = ports.map((port) => new Redis({ host: HOST, port, maxRetriesPerRequest: 1 }));
  for (const client of clients) client.on("error", () => undefined);
  try {
    for (const [index, client] of clients.entries()) {
      const [from, to] = [index, index + 1].map((n) => Math.floor((n * SLOTS) / clients.length));
      await client.call("CLUSTER", "SET-CONFIG-EPOCH", index + 1);
      await client.call("CLUSTER", "ADDSLOTSRANGE", from ?? 0, (to ?? 0) - 1);
    }
    // Each pair meets, because it may take seconds until all know each other through the first one only.
    for (const [index, client] of clients.entries()) {
      for (const port of ports.slice(index + 1)) await client.call("CLUSTER", "MEET", HOST, port);
    }
    const whole = async (): Promise<boolean> =>
      (await Promise.all(clients.map((client) => knowsAll(client, clients.length)))).every((knows) => knows);
    if (!(await waitUntil(whole, FORM_LIMIT_MS))) {
      throw new Error(`the Redis Cluster was not up after ${FORM_LIMIT_MS / 1000} s`);
    }
  } finally {
    for (const client of clients) client.disconnect();
  }
}

async function knowsAll(client: Redis, count: number): Promise<boolean> {
  const info = String(await client.call("CLUSTER", "INFO"));
  return [`cluster_state:ok`, `cluster_known_nodes:${count}`, `cluster_slots_ok:${SLOTS}`].every((fact) =>
    info.split("\r\n").includes(fact),
  );
}
