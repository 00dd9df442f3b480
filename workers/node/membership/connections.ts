import type { RedisClient } from "../../../src/redis/connection/client.ts";
import { type ConnectionRole, connectRedis, openRedis } from "../../../src/redis/connection/connection.ts";
import { ServerWatch } from "../../../src/redis/connection/server-watch.ts";

/** A node's connections to Redis. */
export class Connections {
  readonly shared: RedisClient;
  readonly direct: RedisClient;
  /** For the queue of the node's tasks. */
  readonly blocking: RedisClient;
  readonly #open: (role: ConnectionRole) => RedisClient;

  constructor(redisUrl: string, onError: (error: unknown) => void) {
    const watch = new ServerWatch();
    this.#open = (role) => openRedis(redisUrl, role, onError, {}, watch);
    this.shared = this.#open("shared");
    this.direct = this.#open("direct");
    this.blocking = this.#open("blocking");
  }

  /** Opens one more connection that may block. The caller disconnects it. */
  openBlocking(): RedisClient {
    return this.#open("blocking");
  }

  /** Resolves when Redis answers. @throws if it does not answer within that time. */
  async connect(timeoutMs: number): Promise<void> {
    await Promise.all([this.shared, this.direct].map((each) => connectRedis(each, timeoutMs)));
  }

  /** Disconnects all three at once. Safe to repeat. */
  disconnect(): void {
    for (const each of [this.shared, this.direct, this.blocking]) each.disconnect();
  }
}
