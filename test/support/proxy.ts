import { once } from "node:events";
import { connect, createServer, type Socket } from "node:net";

export type Proxy = {
  readonly port: number;
  /** How many connections were taken and are kept waiting. */
  readonly held: number;
  /** New connections are taken, and hear nothing until `release()`; those that stand are left alone. */
  hold(): void;
  release(): void;
  /** New connections go to this port; those that stand are left alone. */
  lead(port: number): void;
  stop(): Promise<void>;
};

/** Stands before a port of the loopback address, and can act as if what listens there hung. */
export async function startProxy(first: number): Promise<Proxy> {
  const sockets = new Set<Socket>();
  let target = first;
  let waiting: Socket[] = [];
  let holding = false;
  const track = (socket: Socket): Socket => {
    sockets.add(socket);
    // An end that breaks is told to the other end by closing it.
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
