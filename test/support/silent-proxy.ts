import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";

/** Stands between one process and a Redis, and can fall silent without closing, as when a network drops packets. */
export type SilentProxy = {
  /** The URL for the process, instead of the URL of the Redis. */
  readonly url: string;
  /** Holds back all data, or only the replies, on old connections and on new ones. */
  fallSilent(what?: "all" | "replies"): void;
  /** Passes on what was held back, in order. */
  speak(): void;
  /** Serves new connections again. Older ones stay silent for good, as if the network had forgotten them. */
  speakToNew(): void;
  close(): Promise<void>;
};

/** @param redisUrl `redis://host:port`. Not a Redis Cluster: its clients connect where its nodes say, not to the proxy. */
export async function openSilentProxy(redisUrl: string): Promise<SilentProxy> {
  const { hostname, port } = new URL(redisUrl);
  const clients = new Set<Socket>();
  const upstreams = new Set<Socket>();
  let silent: "all" | "replies" | null = null;

  const server = createServer((client) => {
    const upstream = connect(Number(port), hostname);
    join(client, upstream, clients);
    join(upstream, client, upstreams);
    if (silent === "all") client.pause();
    if (silent !== null) upstream.pause();
  });
  await once(server.listen(0, "127.0.0.1"), "listening");

  function join(from: Socket, to: Socket, all: Set<Socket>): void {
    all.add(from);
    from.on("data", (chunk) => to.write(chunk));
    // An error, such as the reset by a killed process, is followed by the close.
    from.on("error", () => undefined);
    from.on("close", () => {
      all.delete(from);
      to.destroy();
    });
  }

  function hush(): void {
    for (const client of clients) if (silent === "all") client.pause();
    for (const upstream of upstreams) if (silent !== null) upstream.pause();
  }

  return {
    url: `redis://127.0.0.1:${(server.address() as AddressInfo).port}`,
    fallSilent: (what = "all") => {
      silent = what;
      hush();
    },
    speak: () => {
      silent = null;
      for (const socket of [...clients, ...upstreams]) socket.resume();
    },
    speakToNew: () => {
      silent = null;
    },
    close: async () => {
      for (const socket of [...clients, ...upstreams]) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
