import assert from "node:assert/strict";
import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";

type Cut = {
  /** Is this the command to cut at, by its words? The first one counts that any connection sends after `cut()`. */
  readonly at: (words: readonly string[]) => boolean;
  /** Does Redis still get that command? */
  readonly passes: boolean;
  /** Called at the moment of the cut. */
  readonly kill: () => void;
};

/** Stands between one process and a Redis, and can cut the process off between two of its commands. */
type CuttingProxy = {
  /** The URL for the process, instead of the URL of the Redis. */
  readonly url: string;
  /** From the command that `cut` knows on, nothing passes in any direction. Resolves when Redis is done with what did pass. */
  cut(cut: Cut): Promise<void>;
  close(): Promise<void>;
};

/**
 * A proxy on a free port of the loopback address. It reads the commands that pass, so that it can cut between two commands even
 * if they come in one piece.
 * @param redisUrl `redis://host:port`. Not a Redis Cluster: its clients connect where its nodes say, not to the proxy.
 */
export async function openCuttingProxy(redisUrl: string): Promise<CuttingProxy> {
  const { hostname, port } = new URL(redisUrl);
  const clients = new Set<Socket>();
  const upstreams = new Set<Socket>();
  const drained = Promise.withResolvers<void>();
  let asked: Cut | null = null;
  let isCut = false;

  const makeCut = (kill: () => void) => {
    isCut = true;
    kill();
    // Redis executes what it has received before it closes its side.
    const closed = [...upstreams].map((upstream) => once(upstream.end(), "close"));
    Promise.all(closed).then(() => drained.resolve(), drained.reject);
  };

  const server = createServer((client) => {
    if (isCut) return void client.destroy();
    const upstream = connect(Number(port), hostname);
    let pending = Buffer.alloc(0);
    client.on("data", (chunk) => {
      pending = Buffer.concat([pending, chunk]);
      for (let command = readCommand(pending); command !== null && !isCut; command = readCommand(pending)) {
        const isHere = asked?.at(command.words) === true;
        if (!isHere || asked?.passes === true) upstream.write(pending.subarray(0, command.bytes));
        pending = pending.subarray(command.bytes);
        if (isHere && asked !== null) makeCut(asked.kill);
      }
    });
    upstream.on("data", (chunk) => {
      if (!isCut) client.write(chunk);
    });
    tie(client, clients, () => {
      if (!isCut) upstream.destroy();
    });
    // After the cut the process must not notice anything, because it is being killed.
    tie(upstream, upstreams, () => {
      if (!isCut) client.destroy();
    });
  });
  await once(server.listen(0, "127.0.0.1"), "listening");

  return {
    url: `redis://127.0.0.1:${(server.address() as AddressInfo).port}`,
    cut: (cut) => {
      asked = cut;
      return drained.promise;
    },
    close: async () => {
      for (const socket of [...clients, ...upstreams]) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

/** Keeps the socket in `all` until it closes. An error, such as the reset by a killed process, is followed by the close. */
function tie(socket: Socket, all: Set<Socket>, onClose: () => void): void {
  all.add(socket);
  socket.on("error", () => undefined);
  socket.on("close", () => {
    all.delete(socket);
    onClose();
  });
}

/** The command at the start of `bytes`, in Redis's protocol: an array of strings. null while it is incomplete. */
export function readCommand(bytes: Buffer): { words: string[]; bytes: number } | null {
  let at = 0;
  const number = (mark: "*" | "$"): number | null => {
    const end = bytes.indexOf("\r\n", at);
    if (end === -1) return null;
    const line = bytes.toString("latin1", at, end);
    assert.equal(line[0], mark, `not a command: ${line}`);
    at = end + 2;
    return Number(line.slice(1));
  };
  const count = number("*");
  if (count === null) return null;
  const words: string[] = [];
  while (words.length < count) {
    const length = number("$");
    if (length === null || bytes.length < at + length + 2) return null;
    words.push(bytes.toString("utf8", at, at + length));
    at += length + 2;
  }
  return { words, bytes: at };
}
