import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { accessSync, constants } from "node:fs";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { Guard } from "../../src/cli/processes/guard.ts";
import { freePort } from "../../src/cli/processes/local-redis.ts";
import { until } from "./cluster.ts";

const HOST = "127.0.0.1";
const MEMBERS = 3;
const START_MS = 60_000;

/** Is the program there? The bootstrap for tests installs it where it can. */
export const hasEtcd = (process.env["PATH"] ?? "").split(delimiter).some((folder) => {
  try {
    accessSync(join(folder, "etcd"), constants.X_OK);
    return true;
  } catch {
    return false;
  }
});

/** For a test that needs etcd. */
export const WITH_ETCD = hasEtcd ? {} : { skip: "etcd is not installed" };

/** An etcd of three members on this machine. */
export type LocalEtcd = {
  /** For STITCH_LEADER_LEASE. */
  readonly place: string;
  /** `host:port` of each member. */
  readonly hosts: readonly string[];
  kill(member: number, signal: NodeJS.Signals): void;
  /** Starts a member that was killed, with what it has on disk. */
  back(member: number): void;
  /** The member that leads etcd itself; null if there is none. */
  leader(): Promise<number | null>;
  /** Resolves when a majority of the members answers. */
  ready(): Promise<void>;
  /** Builds an etcd of its own in the same place, as if all disks had been lost. */
  anew(): Promise<void>;
};

/** Runs `work` with an etcd of its own. */
export async function withEtcd(work: (etcd: LocalEtcd) => Promise<void>): Promise<void> {
  const dir = mkdtempSync(join(tmpdir(), "cs-etcd-"));
  const guard = new Guard(dir);
  const members = await Promise.all(
    Array.from({ length: MEMBERS }, async (_, index) => ({
      name: `e${index}`,
      client: `${HOST}:${await freePort()}`,
      peer: `http://${HOST}:${await freePort()}`,
    })),
  );
  const cluster = members.map(({ name, peer }) => `${name}=${peer}`).join(",");
  const running = new Map<number, ChildProcess>();
  let built = 0;
  const start = (index: number) => {
    const { name, client, peer } = members[index] ?? { name: "", client: "", peer: "" };
    const args = {
      "--name": name,
      "--data-dir": join(dir, `${name}-${built}`),
      "--listen-client-urls": `http://${client}`,
      "--advertise-client-urls": `http://${client}`,
      "--listen-peer-urls": peer,
      "--initial-advertise-peer-urls": peer,
      "--initial-cluster": cluster,
      "--initial-cluster-token": `cs-test-${built}`,
      // Everything is in one machine's memory and on its disk, which other tests use: slower than etcd's defaults.
      "--heartbeat-interval": "100",
      "--election-timeout": "1000",
    };
    const child = spawn("etcd", Object.entries(args).flat(), { cwd: dir, stdio: "ignore" });
    const { pid } = child;
    if (pid !== undefined) guard.add(pid);
    child.once("exit", () => {
      if (pid !== undefined) guard.remove(pid);
    });
    running.set(index, child);
  };
  const ask = async (host: string, path: string, body: object): Promise<Record<string, unknown> | null> => {
    try {
      const response = await fetch(`http://${host}/v3/${path}`, {
        method: "POST",
        body: JSON.stringify(body),
        signal: AbortSignal.timeout(1000),
      });
      return response.ok ? ((await response.json()) as Record<string, unknown>) : null;
    } catch {
      return null;
    }
  };
  const hosts = members.map(({ client }) => client);
  const ready = async () => {
    const look = async () =>
      (await Promise.all(hosts.map((host) => ask(host, "kv/range", { key: "AA==" })))).some((found) => found !== null);
    await until("etcd answers", look, START_MS);
  };
  const killAll = () =>
    Promise.all(
      [...running.values()].map(async (child) => {
        if (child.exitCode !== null || child.signalCode !== null) return;
        child.kill("SIGKILL");
        await once(child, "exit");
      }),
    );
  try {
    for (const index of members.keys()) start(index);
    await ready();
    await work({
      place: `etcd+http://${hosts.join(",")}`,
      hosts,
      kill: (member, signal) => running.get(member)?.kill(signal),
      back: start,
      leader: async () => {
        const states = await Promise.all(hosts.map((host) => ask(host, "maintenance/status", {})));
        const index = states.findIndex(
          (state) => state !== null && state["leader"] === (state["header"] as Record<string, unknown>)["member_id"],
        );
        return index < 0 ? null : index;
      },
      ready,
      anew: async () => {
        await killAll();
        built += 1;
        for (const index of members.keys()) start(index);
        await ready();
      },
    });
  } finally {
    await killAll();
    await guard.close();
    rmSync(dir, { recursive: true, force: true });
  }
}
