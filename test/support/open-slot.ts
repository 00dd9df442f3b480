import { Redis } from "ioredis";
import { until } from "./cluster.ts";
import type { LocalCluster } from "./redis-cluster.ts";

type OpenSlot = {
  /** Moves one key to the slot's new server. */
  readonly move: (key: string) => Promise<void>;
  /** Moves the rest and closes the slot. Safe to repeat. */
  readonly close: () => Promise<void>;
};

/**
 * Runs `work` while the slot of `key` is being moved from one server of a Redis Cluster to another: MIGRATING on the one and
 * IMPORTING on the other, with the keys that `work` has moved so far. In the end the rest is always moved and the slot closed.
 */
export async function withOpenSlot(
  cluster: LocalCluster,
  key: string,
  work: (slot: OpenSlot) => Promise<void>,
): Promise<void> {
  const servers = cluster.masters.map(({ url }) => new Redis(url));
  try {
    const slot = Number(await servers[0]?.cluster("KEYSLOT", key));
    const ids = await Promise.all(servers.map((server) => server.call("CLUSTER", "MYID")));
    const owners = (await servers[0]?.call("CLUSTER", "SLOTS")) as [number, number, [string, number, string]][];
    const owner = owners.find(([first, last]) => first <= slot && slot <= last)?.[2][2];
    const from = servers[ids.indexOf(owner)];
    const to = servers.find((server) => server !== from);
    if (from === undefined || to === undefined) throw new Error(`nobody has the slot ${slot}`);
    const [fromId, toId] = [from, to].map((server) => String(ids[servers.indexOf(server)]));
    const move = async (moved: string): Promise<void> => {
      await from.migrate("127.0.0.1", to.options.port ?? 0, moved, 0, 5000);
    };
    await to.call("CLUSTER", "SETSLOT", slot, "IMPORTING", fromId ?? "");
    await from.call("CLUSTER", "SETSLOT", slot, "MIGRATING", toId ?? "");
    let closed: Promise<void> | null = null;
    const closeIt = async () => {
      // More keys may come while these are moved.
      for (;;) {
        const left = await from.cluster("GETKEYSINSLOT", slot, 1000);
        if (left.length === 0) break;
        for (const one of left) await move(one);
      }
      for (const server of [to, from, ...servers]) await server.call("CLUSTER", "SETSLOT", slot, "NODE", toId ?? "");
      // Otherwise the next owner of the slot may take an epoch that is in use, and lose the slot to its former owner.
      await until("all servers have heard of it", async () => {
        const infos = await Promise.all(servers.map((server) => server.cluster("INFO")));
        return new Set(infos.map((info) => /cluster_current_epoch:(\d+)/.exec(info)?.[1])).size === 1;
      });
    };
    const close = () => (closed ??= closeIt());
    try {
      await work({ move, close });
    } finally {
      await close();
    }
  } finally {
    for (const server of servers) server.disconnect();
  }
}
