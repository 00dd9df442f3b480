import assert from "node:assert/strict";
import { Redis } from "ioredis";
import type { LocalCluster } from "./redis-cluster.ts";

/** A slot of a Redis Cluster that is being moved from one master to another, and stays so until it is closed. */
export type OpenSlot = {
  /** Moves one key. */
  move(key: string): Promise<void>;
  /** Every key that is still on the old master. */
  keysLeft(): Promise<string[]>;
  /** Moves what is left and ends it. May be called twice. */
  close(): Promise<void>;
};

/** Opens the slot of a key that exists. */
export async function openSlotOf(cluster: LocalCluster, key: string): Promise<OpenSlot> {
  const servers = cluster.masters.map(({ url }) => new Redis(url));
  const holds = await Promise.all(servers.map((server) => server.exists(key).catch(() => 0)));
  const from = servers[holds.indexOf(1)];
  const to = servers.find((server) => server !== from);
  if (from === undefined || to === undefined) assert.fail(`${key} is on none of the masters`);
  const [slot, fromId, toId] = await Promise.all([
    from.cluster("KEYSLOT", key),
    from.cluster("MYID"),
    to.cluster("MYID"),
  ]);
  await to.call("CLUSTER", "SETSLOT", slot, "IMPORTING", String(fromId));
  await from.call("CLUSTER", "SETSLOT", slot, "MIGRATING", String(toId));
  const move = async (moved: string) => {
    await from.migrate("127.0.0.1", to.options.port ?? 0, moved, 0, 5000);
  };
  const keysLeft = async () => from.cluster("GETKEYSINSLOT", slot, 10_000);
  let closed: Promise<void> | null = null;
  const close = async () => {
    for (let left = await keysLeft(); left.length > 0; left = await keysLeft())
      for (const each of left) await move(each).catch(() => undefined);
    for (const server of [to, from]) await server.call("CLUSTER", "SETSLOT", slot, "NODE", String(toId));
    for (const server of servers) server.disconnect();
  };
  return { move, keysLeft, close: () => (closed ??= close()) };
}
