import type { Redis } from "ioredis";

/**
 * Replies of a server that is not the primary, or not any more. In the error of a script they stand inside, in older
 * versions of Redis. `UNBLOCKED` says it too where the role has changed; for other reasons it comes from the right server.
 *
 * Not among them: CLUSTERDOWN, MOVED and ASK, which ioredis follows by itself, and MISCONF, NOREPLICAS and OOM, with which
 * the right server refuses writes: another connection would hear the same.
 */
const WRONG_SERVER = /(?:^|-)(?:READONLY|LOADING|MASTERDOWN)\b|^UNBLOCKED .*instance state changed/;

/** The first look, and twice as long between the next ones, up to the most. */
const FIRST_WAIT_MS = 100;
const MOST_WAIT_MS = 2000;
const PROBE_MS = 5000;
/** Where a user may not read the role, each look finds something: so often at most are connections dropped. */
const DROP_EVERY_MS = 1000;

/**
 * Finds the new primary where a failover closes no connection: behind one address the old primary lives on as a replica,
 * and answers READONLY for ever on what is open.
 *
 * From the first such reply on, a connection of its own looks who answers at the address now. Once that is a primary, every
 * connection of this watch is dropped, also one that only reads and never hears READONLY; each connects anew by itself.
 * Until then they stay: a replica that is all there is can still be read. For servers that are no Redis Cluster.
 */
export class ServerWatch {
  readonly #members = new Set<Redis>();
  #probe: Redis | null = null;
  #looking = false;
  #wake: (() => void) | null = null;
  #droppedAtMs = Number.NEGATIVE_INFINITY;

  /** Drops this connection, too, when the server is another. It leaves when it has ended. */
  add(client: Redis): void {
    this.#members.add(client);
    client.once("end", () => {
      this.#members.delete(client);
      if (this.#members.size > 0) return;
      this.#probe?.disconnect();
      this.#wake?.();
    });
  }

  /** Is told each error that Redis replies. @param open opens a connection that makes one attempt, to where a new one leads. */
  onErrorReply(error: Error, open: () => Redis): void {
    if (!WRONG_SERVER.test(error.message) || this.#looking) return;
    if (performance.now() - this.#droppedAtMs < DROP_EVERY_MS) return;
    this.#looking = true;
    void this.#look(open).finally(() => {
      this.#looking = false;
    });
  }

  /** Never rejects. Ends with the last connection at the latest. */
  async #look(open: () => Redis): Promise<void> {
    for (let waitMs = FIRST_WAIT_MS; this.#members.size > 0; waitMs = Math.min(MOST_WAIT_MS, 2 * waitMs)) {
      if (await this.#answersAsPrimary(open())) {
        this.#droppedAtMs = performance.now();
        for (const client of this.#members) if (client.status === "ready") client.disconnect(true);
        return;
      }
      await this.#pause(waitMs);
    }
  }

  /** Disconnects it. A user who may not ask for the role gets a yes: the next write tells. */
  async #answersAsPrimary(probe: Redis): Promise<boolean> {
    this.#probe = probe;
    const timer = setTimeout(() => probe.disconnect(), PROBE_MS);
    try {
      await probe.connect();
      return /^role:master\r?$/m.test(await probe.info("replication"));
    } catch (error) {
      return error instanceof Error && error.message.startsWith("NOPERM");
    } finally {
      clearTimeout(timer);
      probe.disconnect();
      this.#probe = null;
    }
  }

  async #pause(ms: number): Promise<void> {
    if (this.#members.size === 0) return;
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, ms);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
    this.#wake = null;
  }
}
