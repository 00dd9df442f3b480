import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { readCommand } from "./cutting-proxy.ts";

/** The commands that were sent in one round trip. `connect` stands for the handshake of a new connection, which is a round trip too. */
export type RoundTrip = readonly string[];

/** Stands between clients and a Redis as a link that is far: it lets nothing arrive earlier than such a link would. */
export type DelayingProxy = {
  /** The URL for the clients, instead of the URL of the Redis. */
  readonly url: string;
  /** How long a round trip takes on this link: half of it in each direction. A change counts for what is sent from then on. */
  roundTripMs: number;
  /** Counts anew from here on. @returns what gives the round trips that have been completed since, in their order. */
  count(): () => readonly RoundTrip[];
  close(): Promise<void>;
};

/**
 * The number of round trips to Redis that follow one upon another while `work` is under way, over all connections of the proxy.
 *
 * What a client sends belongs to round trip n + 1 if by then it has received an answer to something of round trip n, and nothing
 * later; so what is sent at the same time counts once, on however many connections, and so does what is sent in several pieces.
 * The handshake of a new connection counts as one. What is sent but not answered before `work` ends does not count: nobody waited
 * for it. What a client sends of its own accord meanwhile (a heartbeat) may raise the count: let it have none, or take the lowest of
 * several counts. The link must be slower than what a client needs to send all that it sends at once: some 50 ms.
 */
export async function countRoundTrips(proxy: DelayingProxy, work: () => Promise<unknown>): Promise<number> {
  return (await roundTrips(proxy, work)).length;
}

/** As `countRoundTrips`: which commands each round trip carried. Use it to see what a request waits for. */
export async function roundTrips(proxy: DelayingProxy, work: () => Promise<unknown>): Promise<readonly RoundTrip[]> {
  const counted = proxy.count();
  await work();
  return counted();
}

/**
 * A proxy on a free port of the loopback address.
 * @param redisUrl `redis://host:port`. Not a Redis Cluster: its clients connect where its nodes say, not to the proxy.
 */
export async function openDelayingProxy(redisUrl: string, roundTripMs: number): Promise<DelayingProxy> {
  const target = new URL(redisUrl);
  const sockets = new Set<Socket>();
  const lanes = new Set<Lane>();
  let counter = new Counter();

  const track = (socket: Socket): Socket => {
    sockets.add(socket);
    socket.setNoDelay(true);
    // When one end breaks, the proxy closes the other end.
    socket.on("error", () => undefined);
    return socket.once("close", () => sockets.delete(socket));
  };
  const lane = (to: Socket): Lane => {
    const made = new Lane(to);
    lanes.add(made);
    to.once("close", () => {
      made.stop();
      lanes.delete(made);
    });
    return made;
  };
  const server = createServer((client) => {
    track(client);
    const upstream = track(connect(Number(target.port), target.hostname));
    const [there, back] = [lane(upstream), lane(client)];
    const openMs = performance.now() + proxy.roundTripMs;
    const opened = counter;
    const handshake = opened.send(["connect"], opened.next);
    // What Redis has received last.
    let arrived: Sent | null = null;
    let pending = Buffer.alloc(0);
    back.pass(null, openMs, () => handshake.answered());
    client.on("data", (chunk) => {
      pending = Buffer.concat([pending, chunk]);
      const names: string[] = [];
      for (let command = readCommand(pending); command !== null; command = readCommand(pending)) {
        names.push(nameOf(command.words));
        pending = pending.subarray(command.bytes);
      }
      // On a link that is far, the client could not send anything before the connection is open.
      const sent = counter.send(names, Math.max(counter.next, counter === opened ? handshake.trip + 1 : 0));
      const dueMs = Math.max(performance.now(), openMs) + proxy.roundTripMs / 2;
      there.pass(chunk, dueMs, () => {
        arrived = sent;
      });
    });
    upstream.on("data", (chunk) => {
      const answers = arrived;
      back.pass(chunk, performance.now() + proxy.roundTripMs / 2, () => answers?.answered());
    });
    client.once("close", () => there.end(performance.now() + proxy.roundTripMs / 2));
    upstream.once("close", () => back.end(performance.now() + proxy.roundTripMs / 2));
  });
  await once(server.listen(0, "127.0.0.1"), "listening");

  const url = new URL(redisUrl);
  url.host = `127.0.0.1:${(server.address() as AddressInfo).port}`;
  const proxy: DelayingProxy = {
    url: url.href,
    roundTripMs,
    count: () => {
      const begun = new Counter();
      counter = begun;
      return () => begun.completed;
    },
    close: async () => {
      for (const each of lanes) each.stop();
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
  return proxy;
}

type Sent = { readonly trip: number; answered(): void };

/** Knows which round trip is under way. What was sent before it began counts as nothing. */
class Counter {
  readonly #trips: string[][] = [];
  /** Of how many round trips, one upon another, an answer was received. */
  #answered = 0;

  get next(): number {
    return this.#answered + 1;
  }

  get completed(): readonly RoundTrip[] {
    return this.#trips.slice(0, this.#answered);
  }

  send(names: readonly string[], trip: number): Sent {
    while (this.#trips.length < trip) this.#trips.push([]);
    this.#trips[trip - 1]?.push(...names);
    return {
      trip,
      answered: () => {
        this.#answered = Math.max(this.#answered, trip);
      },
    };
  }
}

/** One direction of one connection. Everything arrives in order, never before it is due. */
class Lane {
  readonly #to: Socket;
  readonly #queue: { readonly dueMs: number; readonly arrive: () => void }[] = [];
  #timer: NodeJS.Timeout | null = null;

  constructor(to: Socket) {
    this.#to = to;
  }

  /** @param onArrive called right before the chunk is passed on. No chunk: only that. */
  pass(chunk: Buffer | null, dueMs: number, onArrive: () => void): void {
    this.#add(dueMs, () => {
      onArrive();
      if (chunk !== null) this.#to.write(chunk);
    });
  }

  end(dueMs: number): void {
    this.#add(dueMs, () => this.#to.end());
  }

  stop(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
    this.#queue.length = 0;
  }

  #add(dueMs: number, arrive: () => void): void {
    if (this.#to.destroyed) return;
    this.#queue.push({ dueMs, arrive });
    if (this.#timer === null) this.#run();
  }

  #run(): void {
    this.#timer = null;
    for (let first = this.#queue[0]; first !== undefined; first = this.#queue[0]) {
      const leftMs = first.dueMs - performance.now();
      if (leftMs > 0) {
        this.#timer = setTimeout(() => this.#run(), Math.ceil(leftMs));
        return;
      }
      this.#queue.shift();
      first.arrive();
    }
  }
}

/** A script is known by the first key that it gets. */
function nameOf(words: readonly string[]): string {
  const [name = "", , keys = "0", key = ""] = words;
  const lower = name.toLowerCase();
  return (lower === "evalsha" || lower === "eval") && Number(keys) > 0 ? `${lower} ${key}` : lower;
}
