import assert from "node:assert/strict";
import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";

type Cut = {
  /** Knows the command to cut at, by its words: the first one that any connection sends after `cut()`. */
  readonly at: (words: readonly string[]) => boolean;
  /** Does Redis still get that command? */
  readonly passes: boolean;
  /** Called in the moment of the cut. */
  readonly kill: () => void;
};

/** Stands between one process and a Redis, and can cut the process off between two of its commands. */
type CuttingProxy = {
  /** Where the process finds it instead of the Redis. */
  readonly url: string;
  /** From the command on that `cut` knows, nothing passes, in neither direction. Resolves when Redis has done with what did. */
  cut(cut: Cut): Promise<void>;
  close(): Promise<void>;
};

/**
 * A proxy on a free port of the loopback address. It reads the commands that pass, so that it cuts between two of them also
 * where they come in one piece.
 * @param redisUrl `redis://host:port`. Not a Redis Cluster: its clients go where its nodes say, not where the proxy is.
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
    // Redis carries out what it got before it closes from its side.
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
    // After the cut the process is not to notice anything: it is being killed.
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

/** Keeps the socket in `all` until it closes. An error, such as the reset by a process that was killed, is followed by the close. */
function tie(socket: Socket, all: Set<Socket>, onClose: () => void): void {
  all.add(socket);
  socket.on("error", () => undefined);
  socket.on("close", () => {
    all.delete(socket);
    onClose();
  });
}

/** The command that `bytes` begin with, in Redis's protocol: an array of strings. null while it is not whole. */
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
