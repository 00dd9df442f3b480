import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";

/** The start of a command: clients send an array of bulk strings. Values here are JSON, which holds no line break. */
const COMMAND = /(?:^|\r\n)\*\d+\r\n/g;

/** A TCP proxy in front of Redis that counts what passes. Only for counts, not for times: the proxy itself takes time. */
export class Wire {
  /** How often the client sent something after Redis had: each time is a round trip that the client waited for. */
  roundTrips = 0;
  commands = 0;
  readonly #server;
  readonly #sockets = new Set<Socket>();

  constructor(redisUrl: string) {
    const { hostname, port } = new URL(redisUrl);
    this.#server = createServer({ noDelay: true }, (client) => {
      const redis = connect({ host: hostname, port: Number(port), noDelay: true });
      let clientSpeaks = false;
      client.on("data", (data) => {
        if (!clientSpeaks) this.roundTrips += 1;
        clientSpeaks = true;
        this.commands += data.toString("latin1").match(COMMAND)?.length ?? 0;
        redis.write(data);
      });
      redis.on("data", (data) => {
        clientSpeaks = false;
        client.write(data);
      });
      for (const [one, other] of [
        [client, redis],
        [redis, client],
      ] as const) {
        this.#sockets.add(one);
        one.on("error", () => other.destroy());
        one.on("close", () => other.destroy());
      }
    });
  }

  /** @returns the URL to connect to. */
  async listen(): Promise<string> {
    this.#server.listen(0, "127.0.0.1");
    await once(this.#server, "listening");
    return `redis://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  close(): void {
    for (const socket of this.#sockets) socket.destroy();
    this.#server.close();
  }
}
