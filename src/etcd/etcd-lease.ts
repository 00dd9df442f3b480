import * as z from "zod";
import type { Candidacy, Election, Held, LeaderLease, Won } from "../domain/election.ts";
import type { ChosenMaster } from "../domain/master-mode.ts";
import type { RedisClient } from "../redis/connection/client.ts";
import type { Keys } from "../redis/keys.ts";
import { electLeader, giveLeaseBack, readLeader, renewLease } from "../redis/leader-lease.ts";
import { EtcdGateway } from "./gateway.ts";

/** One member has this part of the lease for an answer: then another one is asked, and the lease can still be renewed in time. */
const ANSWER = 1 / 6;

/** int64: a string in etcd's JSON, and absent if it is 0. */
const int64 = z.string().regex(/^\d+$/).default("0");
const header = z.object({ cluster_id: z.string(), revision: int64 });
const kv = z.object({ create_revision: int64, lease: int64 });
const range = z.object({ header, kvs: z.array(kv).default([]) });
const granted = z.object({ ID: z.string() });
const keptAlive = z.object({ result: z.object({ ID: z.string(), TTL: int64 }) });
const txn = z.object({
  header,
  succeeded: z.boolean().default(false),
  responses: z.array(z.object({ response_range: range.partial({ header: true }).optional() })).default([]),
});

type EtcdLeaseOptions = {
  readonly place: string;
  readonly redis: RedisClient;
  readonly keys: Keys;
  readonly chosen: ChosenMaster;
  readonly leaseMs: number;
};

/** The members of a place: `etcd+http://host:port,host:port`. */
export const membersOf = (place: string): string[] => {
  const [scheme = "", hosts = ""] = place.replace(/^etcd\+/, "").split("://");
  return hosts.split(",").map((host) => `${scheme}://${host}`);
};

/**
 * The leader's lease in etcd: a key that only one candidate can create, with a lease that it keeps alive. Elections are decided by
 * Raft, and ordered by the key's create revision, which never goes back. A Master is elected when it has won in etcd **and** Redis has
 * taken note of it: Redis is where the acts of leaders are compared.
 */
export class EtcdLease implements LeaderLease {
  readonly place: string;
  readonly #options: EtcdLeaseOptions;
  readonly #etcd: EtcdGateway;
  readonly #key: string;
  /** The lease in etcd under which the key was created; null if none was. */
  #lease: string | null = null;

  constructor(options: EtcdLeaseOptions) {
    const { place, keys, leaseMs } = options;
    this.place = place;
    this.#options = options;
    this.#key = base64(`/crossstitch/${keys.cluster}/leader`);
    this.#etcd = new EtcdGateway({ members: membersOf(place), answerMs: Math.floor(leaseMs * ANSWER) });
  }

  async win(candidacy: Candidacy): Promise<Won | Held> {
    const held: Held = { election: null, leftMs: candidacy.leaseMs / 3 };
    await this.#release();
    if ((await this.#read()).kvs.length > 0) return held;
    const decided = await this.#create(candidacy);
    if (decided === null) return held;
    try {
      const won =
        (await electLeader(this.#options, candidacy, decided)) ??
        // Redis knows a newer election of this etcd: it was restored from an old copy. A higher epoch makes this one the newest.
        (await electLeader(this.#options, { ...candidacy, above: await this.#epoch() }, decided));
      if (won !== null) return won;
    } catch (error) {
      await this.#release().catch(untilItExpires);
      throw error;
    }
    await this.#release();
    return held;
  }

  async renew(election: Election, leaseMs: number): Promise<boolean> {
    const isKept = (await this.#isKept()) && (await renewLease(this.#options, election, leaseMs));
    if (!isKept) await this.#release().catch(untilItExpires);
    return isKept;
  }

  async giveBack(election: Election): Promise<void> {
    await Promise.all([this.#release(), giveLeaseBack(this.#options, election)]);
  }

  /** Keeps the lease alive. A member that does not know yet that it is no longer etcd's leader may say so too, so the key is read. */
  async #isKept(): Promise<boolean> {
    const lease = this.#lease;
    if (lease === null) return false;
    const kept = await this.#etcd.call("lease/keepalive", { ID: lease }, keptAlive);
    if (kept === null || kept.result.TTL === "0") return false;
    return (await this.#read()).kvs[0]?.lease === lease;
  }

  /** @returns the election in etcd; null if another one has created the key. */
  async #create({ holder, id, leaseMs }: Candidacy): Promise<{ n: number; store: string } | null> {
    const lease = await this.#etcd.call("lease/grant", { TTL: String(leaseMs / 1000), ID: "0" }, granted);
    if (lease === null) return null;
    this.#lease = lease.ID;
    const done = await this.#etcd.call(
      "kv/txn",
      {
        compare: [{ key: this.#key, target: "CREATE", result: "EQUAL", create_revision: "0" }],
        success: [
          { request_put: { key: this.#key, value: base64(JSON.stringify({ holder, election: id })), lease: lease.ID } },
        ],
        failure: [{ request_range: { key: this.#key } }],
      },
      txn,
    );
    if (done === null) return null;
    const store = done.header.cluster_id;
    if (done.succeeded) return { n: Number(done.header.revision), store };
    // The answer to the first try was lost, and another member was asked.
    const [found] = done.responses[0]?.response_range?.kvs ?? [];
    if (found?.lease === lease.ID) return { n: Number(found.create_revision), store };
    await this.#release();
    return null;
  }

  /** The key as a majority of the members has it. */
  async #read(): Promise<z.output<typeof range>> {
    const found = await this.#etcd.call("kv/range", { key: this.#key }, range);
    return found ?? { header: { cluster_id: "", revision: "0" }, kvs: [] };
  }

  async #epoch(): Promise<number> {
    return (await readLeader(this.#options.redis, this.#options.keys))?.epoch ?? 0;
  }

  /** Ends the lease, and with it the key. */
  async #release(): Promise<void> {
    const lease = this.#lease;
    if (lease === null) return;
    await this.#etcd.call("lease/revoke", { ID: lease }, z.unknown());
    this.#lease = null;
  }
}

const base64 = (text: string): string => btoa(text);

/** A lease that is not given back ends by itself. */
function untilItExpires(): void {}
