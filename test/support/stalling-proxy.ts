import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { readCommand } from "./cutting-proxy.ts";

/** Stands between one process and a Redis, and can hold a connection up between two of its commands. */
export type StallingProxy = {
  /** The URL for the process, instead of the URL of the Redis. */
  readonly url: string;
  /** Holds back the first command that `at` knows by its words, and what follows on its connection. Resolves at that moment. */
  stall(at: (words: readonly string[]) => boolean): Promise<void>;
  /** Passes on what is held back. */
  release(): void;
  close(): Promise<void>;
};

/**
 * A proxy on a free port of the loopback address.
 * @param redisUrl `redis://host:port`. Not a Redis Cluster: its clients connect where its nodes say, not to the proxy.
 */
export async function openStallingProxy(redisUrl: string): Promise<StallingProxy> {
  const { hostname, port } = new URL(redisUrl);
  const sockets = new Set<Socket>();
  const stalled = Promise.withResolvers<void>();
  let asked: ((words: readonly string[]) => boolean) | null = null;
  let goOn = (): void => undefined;

  const track = (socket: Socket): Socket => {
    sockets.add(socket);
    // When one end breaks, the proxy closes the other end.
    socket.on("error", () => undefined);
    return socket.once("close", () => sockets.delete(socket));
  };
  const server = createServer((client) => {
    track(client);
    const upstream = track(connect(Number(port), hostname));
    let pending = Buffer.alloc(0);
    let isHeld = false;
    const pass = () => {
      for (let command = readCommand(pending); command !== null && !isHeld; command = readCommand(pending)) {
        if (asked?.(command.words) === true) {
          asked = null;
          isHeld = true;
          goOn = () => {
            isHeld = false;
            pass();
          };
          stalled.resolve();
          return;
        }
        upstream.write(pending.subarray(0, command.bytes));
        pending = pending.subarray(command.bytes);
      }
    };
    client.on("data", (chunk) => {
      pending = Buffer.concat([pending, chunk]);
      pass();
    });
    upstream.pipe(client);
    client.once("close", () => upstream.destroy());
    upstream.once("close", () => client.destroy());
  });
  await once(server.listen(0, "127.0.0.1"), "listening");

  return {
    url: `redis://127.0.0.1:${(server.address() as AddressInfo).port}`,
    stall: (at) => {
      asked = at;
      return stalled.promise;
    },
    release: () => goOn(),
    close: async () => {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
