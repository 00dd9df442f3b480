import type { Redis } from "ioredis";

/**
 * Error replies of a server that is not the primary, or not any more. In older versions of Redis, the error of a script
 * contains them further inside. `UNBLOCKED` means the same if the role has changed; for other reasons it comes from the
 * right server.
 *
 * Not included: CLUSTERDOWN, MOVED and ASK, which ioredis follows by itself; MISCONF, NOREPLICAS and OOM, with which the
 * right server refuses writes: another connection would get the same reply.
 */
const WRONG_SERVER = /(?:^|-)(?:READONLY|LOADING|MASTERDOWN)\b|^UNBLOCKED .*instance state changed/;

/** The pause after the first look. It doubles after each look, up to `MOST_WAIT_MS`. */
const FIRST_WAIT_MS = 100;
const MOST_WAIT_MS = 2000;
const PROBE_MS = 5000;
/** Connections are dropped at most this often: if the user may not read the role, each look counts as finding a primary. */
const DROP_EVERY_MS = 1000;

/**
 * Finds the new primary after a failover that closes no connection: behind the same address, the old primary continues as a
 * replica, and answers READONLY for ever on the open connections.
 *
 * After the first reply of this kind, a connection of its own (the probe) checks which server answers at the address now. When
 * that is a primary, the watch drops all its connections, also those that only read and never get READONLY; each reconnects by
 * itself. Until then they stay open: if there is only a replica, it can still be read. Not for a Redis Cluster.
 */
export class ServerWatch {
  readonly #members = new Set<Redis>();
  #probe: Redis | null = null;
  #looking = false;
  #wake: (() => void) | null = null;
  #droppedAtMs = Number.NEGATIVE_INFINITY;

  /** Adds a connection that is dropped when another server is the primary. It leaves the watch when it has ended. */
  add(client: Redis): void {
    this.#members.add(client);
    client.once("end", () => {
      this.#members.delete(client);
      if (this.#members.size > 0) return;
      this.#probe?.disconnect();
      this.#wake?.();
    });
  }

  /**
   * Is called with each error that Redis replies. @param open opens a connection that makes one attempt, to the address
   * where a new connection leads.
   */
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

  /** Disconnects the probe. Returns true if the user may not ask for the role: then the next write shows it. */
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
