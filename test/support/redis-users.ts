import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Redis } from "ioredis";
import { type LocalRedis, startLocalRedis } from "../../src/cli/processes/local-redis.ts";
import { TestCluster } from "./cluster.ts";
import { startLocalCluster } from "./redis-cluster.ts";

export const SECURITY_DOC = readFileSync(join(import.meta.dirname, "../../docs/security.md"), "utf8");

const USERS_FILE = readFileSync(join(import.meta.dirname, "../../infra/users.acl"), "utf8");

/** The rules of each user in infra/users.acl, for a cluster and its nodes. */
export function usersOf(cluster: string, nodes: readonly string[]): Map<string, string[]> {
  const lines = [...USERS_FILE.matchAll(/^user (\S+) (.+)$/gm)].map(([, name = "", rules = ""]) => ({ name, rules }));
  assert.deepEqual(lines.map(({ name }) => name).sort(), ["admin", "api", "default", "master", "node-m1"]);
  const users = new Map<string, string[]>();
  for (const { name, rules } of lines) {
    const ours = rules.replaceAll("cs:prod:", `cs:${cluster}:`);
    if (name !== "node-m1") users.set(name, ours.split(" "));
    else for (const node of nodes) users.set(`node-${node}`, ours.replaceAll("m1", node).split(" "));
  }
  return users;
}

type Servers = { readonly url: string; readonly servers: readonly LocalRedis[]; stop(): Promise<void> };

/** The kinds of Redis, each to be started for one test. */
export const KINDS = [
  {
    kind: "a standalone Redis",
    start: async (dir: string): Promise<Servers> => {
      const redis = await startLocalRedis({ dir, port: 0 });
      return { url: redis.url, servers: [redis], stop: () => redis.stop() };
    },
  },
  {
    kind: "a Redis Cluster",
    start: async (dir: string): Promise<Servers> => {
      const cluster = await startLocalCluster({ dir, masters: 3 });
      return { url: cluster.url, servers: cluster.masters, stop: () => cluster.stop() };
    },
  },
];

export type WithUsers = {
  /** The Master of this cluster in this process has the user `master`. */
  readonly cluster: TestCluster;
  /** The URL of the Redis for one of the users. */
  readonly as: (user: string) => string;
  /** A connection to each server, with all rights. */
  readonly admins: readonly Redis[];
  readonly redis: Servers;
};

/** Runs `work` with a cluster on a Redis of its own, which has the users of infra/users.acl. */
export async function withRedisUsers(
  start: (dir: string) => Promise<Servers>,
  nodes: readonly string[],
  work: (given: WithUsers) => Promise<void>,
  env: Readonly<Record<string, string>> = {},
): Promise<void> {
  const dir = mkdtempSync(join(tmpdir(), "cs-acl-"));
  const redis = await start(dir);
  const admins = redis.servers.map(({ url }) => new Redis(url));
  const as = (user: string) => redis.url.replace("://", `://${user}:PASSWORD@`);
  const cluster = new TestCluster(as("master"), env);
  try {
    // Existing connections stay open when the default user is disabled.
    for (const admin of admins)
      for (const [user, rules] of usersOf(cluster.name, nodes)) await admin.call("ACL", "SETUSER", user, ...rules);
    await cluster.start();
    await work({ cluster, as, admins, redis });
  } finally {
    await cluster.stop();
    for (const admin of admins) admin.disconnect();
    await redis.stop();
    rmSync(dir, { recursive: true, force: true });
  }
}
