import { once } from "node:events";
import { connect, createServer, type Socket } from "node:net";

export type Proxy = {
  readonly port: number;
  /** How many connections were accepted and are kept waiting. */
  readonly held: number;
  /** New connections are accepted, and get nothing until `release()`. Existing connections are left alone. */
  hold(): void;
  release(): void;
  /** New connections go to this port. Existing connections are left alone. */
  lead(port: number): void;
  stop(): Promise<void>;
};

/** Stands in front of a port of the loopback address, and can act as if the server behind it hung. */
export async function startProxy(first: number): Promise<Proxy> {
  const sockets = new Set<Socket>();
  let target = first;
  let waiting: Socket[] = [];
  let holding = false;
  const track = (socket: Socket): Socket => {
    sockets.add(socket);
    // When one end breaks, the proxy closes the other end.
    socket.on("error", () => undefined);
    return socket.once("close", () => sockets.delete(socket));
  };
  const join = (near: Socket): void => {
    const far = track(connect(target, "127.0.0.1"));
    near.pipe(far).pipe(near);
    near.once("close", () => far.destroy());
    far.once("close", () => near.destroy());
  };
  const server = createServer((near) => {
    track(near);
    if (holding) waiting.push(near);
    else join(near);
  });
  await once(server.listen(0, "127.0.0.1"), "listening");
  const address = server.address();
  return {
    port: typeof address === "object" && address !== null ? address.port : 0,
    get held() {
      return waiting.length;
    },
    hold: () => {
      holding = true;
    },
    release: () => {
      holding = false;
      for (const near of waiting) join(near);
      waiting = [];
    },
    lead: (port) => {
      target = port;
    },
    stop: async () => {
      for (const socket of sockets) socket.destroy();
      await once(server.close(), "close");
    },
  };
}
