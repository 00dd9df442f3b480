import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { Redis } from "ioredis";
import { Guard } from "../../src/cli/processes/guard.ts";
import { findRedisServer, freePort, type LocalRedis, startLocalRedis } from "../../src/cli/processes/local-redis.ts";
import { until } from "./cluster.ts";

const HOST = "127.0.0.1";
const NAME = "main";
/** Short, because a test waits for it; long enough that a busy machine is not taken for a dead primary. */
const DOWN_AFTER_MS = 3000;
const FAILOVER_LIMIT_MS = 60_000;

export type LocalSentinel = {
  /** `redis+sentinel://127.0.0.1:port/main` */
  readonly url: string;
  /** Sentinel's port. */
  readonly port: number;
  /** A test may kill or stop it. */
  readonly primary: LocalRedis;
  /** Resolves when the replica has all writes to the primary from before the call, so that a failover loses none of them. */
  inStep(): Promise<void>;
  /** From now on the replica gets no writes of the primary, so that a failover loses them. */
  cutOffReplica(): Promise<void>;
  /** Cuts off one of the primary's clients. */
  cutOff(clientId: number): Promise<void>;
  /** Resolves when the replica is the primary, and Sentinel says so. */
  failedOver(): Promise<void>;
  /** May be called twice and at once. */
  stop(): Promise<void>;
};

/** A primary with one replica, and one Sentinel that makes the replica the primary when the primary is down; in `dir`. */
export async function startLocalSentinel(dir: string, downAfterMs = DOWN_AFTER_MS): Promise<LocalSentinel> {
  const [primary, replica] = await Promise.all([
    startLocalRedis({ dir: join(dir, "primary"), port: 0, settings: { "repl-diskless-sync-delay": "0" } }),
    startLocalRedis({ dir: join(dir, "replica"), port: 0 }),
  ]);
  const guard = new Guard(dir);
  const clients: Redis[] = [];
  const client = (port: number): Redis => {
    const opened = new Redis({ host: HOST, port, maxRetriesPerRequest: 1 });
    opened.on("error", () => undefined);
    clients.push(opened);
    return opened;
  };
  let sentinel: ChildProcess | null = null;
  let sentinelEnded: Promise<void> | null = null;
  const stop = async (): Promise<void> => {
    for (const opened of clients) opened.disconnect();
    sentinel?.kill("SIGKILL");
    // A primary that was stopped (SIGSTOP) would not notice that it must end.
    primary.kill("SIGCONT");
    await Promise.all([primary.stop(), replica.stop(), sentinelEnded]);
    await guard.close();
  };
  try {
    const [primaryPort, replicaPort] = [primary, replica].map(({ url }) => Number(new URL(url).port)) as [
      number,
      number,
    ];
    const toPrimary = client(primaryPort);
    await client(replicaPort).replicaof(HOST, primaryPort);
    // Before Sentinel looks for the first time, because it looks again only after ten seconds.
    await until("the replica follows", async () => /^slave0:.*state=online/m.test(await toPrimary.info("replication")));
    const port = await freePort();
    sentinel = await startSentinel(dir, port, primaryPort, downAfterMs);
    const { pid = 0 } = sentinel;
    guard.add(pid);
    sentinelEnded = once(sentinel, "exit").then(() => guard.remove(pid));
    const toSentinel = client(port);
    await until("Sentinel could fail over to the replica", async () => {
      const fields = (await toSentinel.call("SENTINEL", "REPLICAS", NAME).catch(() => [])) as string[][];
      const fact = (name: string) => fields[0]?.[fields[0].indexOf(name) + 1];
      return fact("flags") === "slave" && fact("master-link-status") === "ok";
    });
    return {
      url: `redis+sentinel://${HOST}:${port}/${NAME}`,
      port,
      primary,
      inStep: async () => {
        await toPrimary.set("in-step", 1);
        await until("the replica is in step", async () => (await toPrimary.wait(1, 100)) === 1);
      },
      cutOffReplica: async () => {
        // The replica tries to follow again, and is refused. Sentinel does not act: the replica follows the right primary.
        await toPrimary.acl("SETUSER", "default", "-psync", "-sync");
        await toPrimary.call("CLIENT", "KILL", "TYPE", "replica");
        await until("it has no replica", async () =>
          /^connected_slaves:0\r?$/m.test(await toPrimary.info("replication")),
        );
      },
      cutOff: async (clientId) => {
        await toPrimary.client("KILL", "ID", clientId);
      },
      failedOver: async () => {
        const named = async () => (await toSentinel.call("SENTINEL", "GET-MASTER-ADDR-BY-NAME", NAME)) as string[];
        await until(
          "Sentinel names the replica",
          async () => (await named())[1] === String(replicaPort),
          FAILOVER_LIMIT_MS,
        );
      },
      stop,
    };
  } catch (error) {
    await stop();
    throw error;
  }
}

async function startSentinel(
  dir: string,
  port: number,
  primaryPort: number,
  downAfterMs: number,
): Promise<ChildProcess> {
  const program = findRedisServer();
  if (program === null) throw new Error("no Redis server on the PATH");
  const home = join(dir, "sentinel");
  await mkdir(home, { recursive: true });
  const settings = [
    `port ${port}`,
    `bind ${HOST}`,
    `dir ${home}`,
    `sentinel monitor ${NAME} ${HOST} ${primaryPort} 1`,
    `sentinel down-after-milliseconds ${NAME} ${downAfterMs}`,
    `sentinel failover-timeout ${NAME} 10000`,
  ];
  const conf = join(home, "sentinel.conf");
  await writeFile(conf, `${settings.join("\n")}\n`);
  const child = spawn(program, [conf, "--sentinel"], { cwd: home, stdio: "ignore" });
  await once(child, "spawn");
  return child;
}
