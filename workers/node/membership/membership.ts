import { join } from "node:path";
import { orLate, within } from "../../../src/bounded-wait.ts";
import type { Eligibility, NodeFacts, NodeLoad } from "../../../src/domain/node/node.ts";
import type { NodePorts } from "../../../src/master/ports.ts";
import { openNodeQueue } from "../../../src/queue/node-queue.ts";
import { createInbox, lastEntryRead } from "../../../src/redis/inbox/inbox.ts";
import type { Keys } from "../../../src/redis/keys.ts";
import { readBootId } from "../processes/launches.ts";
import type { Watchdog } from "../processes/watchdog.ts";
import { onlyAssigned } from "../stitches/only-assigned.ts";
import type { ObeyedTombstones } from "../stitches/obeyed-tombstones.ts";
import type { Publisher } from "../stitches/publisher.ts";
import type { Specs } from "../stitches/specs.ts";
import type { StitchHost } from "../stitches/stitch-host.ts";
import type { StitchRegistry } from "../stitches/stitch-registry.ts";
import type { Connections } from "./connections.ts";
import { LastBeat } from "./last-beat.ts";
import { Lease, type RequestTime } from "./lease.ts";
import { Ownership } from "./ownership.ts";
import { RedisClock } from "./redis-clock.ts";

type MembershipOptions = {
  /** Identifies this run of the worker. */
  readonly session: string;
  readonly node: string;
  readonly keys: Keys;
  readonly connections: Pick<Connections, "shared" | "direct">;
  readonly master: Pick<NodePorts, "publishing" | "orders">;
  readonly watchdog: Watchdog;
  readonly facts: NodeFacts;
  readonly stateDir: string;
  readonly leaseMs: number;
  /** Called when the lease has run out. */
  readonly onLeaseEnd: () => void;
  readonly nowMs: () => number;
  readonly say: (message: string) => void;
  readonly onError: (error: unknown) => void;
};

/** The parts of a node that its membership publishes and merges with Redis. */
export type NodeContents = {
  readonly host: StitchHost;
  readonly registry: StitchRegistry;
  readonly publisher: Publisher;
  readonly specs: Specs;
  readonly tombstones: ObeyedTombstones;
};

/** Heartbeats between two checks that the node is on the list of nodes and its queue is open. */
const REPAIR_EVERY = 30;
/** Longest wait for the disk to record that the lease was given back. */
const GIVE_BACK_MS = 500;

const WHY_AGAIN = {
  gone: "Redis does not know this node",
  other: "Redis is older than this worker: it shows another life of the node",
  older: "Redis is older than this worker's last heartbeat",
  lapsed: "the lease has run out",
} as const;

/** Thrown when the id belongs to another live worker. */
export class NodeIdTaken extends Error {
  override readonly name = "NodeIdTaken";
}

/**
 * The membership of a node in its cluster during one run of the worker: its state folder, its id, its lease, and whether
 * Redis and the node hold the same records. One run has one session, and a new incarnation each time it registers.
 */
export class Membership {
  readonly session: string;
  readonly dir: string;
  readonly #options: MembershipOptions;
  readonly #lease: Lease;
  readonly #clock: RedisClock;
  readonly #lastBeat: LastBeat;
  #ownership: Ownership | null = null;
  #incarnation = 0;
  #eligibility: Eligibility = "eligible";
  /** Heartbeats of this incarnation. */
  #beats = 0;
  /** The last inbox entry that an earlier run of the worker took. */
  #lastTaken = "0-0";
  /** Has the node merged the records of Redis and published its own since it registered? */
  #isReconciled = false;
  #hasJoined = false;
  /** Is a registration a return: of this worker, or of a node that Masters took for silent? */
  #isBack = false;

  constructor(options: MembershipOptions) {
    this.#options = options;
    this.session = options.session;
    const { stateDir, keys, node, nowMs, leaseMs, onError, onLeaseEnd: onEnd } = options;
    this.dir = join(stateDir, keys.cluster, node);
    this.#lastBeat = new LastBeat(this.dir, readBootId(), onError);
    const steadyNowMs = () => performance.now();
    this.#lease = new Lease({ leaseMs, nowMs, steadyNowMs: () => Math.floor(steadyNowMs()), onEnd });
    this.#clock = new RedisClock({ nowMs, steadyNowMs });
  }

  get incarnation(): number {
    return this.#incarnation;
  }
  /** May the node take new stitches, as far as it knows? */
  get eligibility(): Eligibility {
    return this.#eligibility;
  }
  get lastTaken(): string {
    return this.#lastTaken;
  }
  /** Does this worker hold the lease, as far as it knows without asking Redis? */
  get holdsId(): boolean {
    return this.#lease.holds;
  }
  /** How long this worker certainly holds the lease; 0 or less if another worker may have it. */
  get leaseLeftMs(): number {
    return this.#lease.leftMs;
  }
  /** The sessions of earlier runs of the worker whose processes may still run. */
  get formerSessions(): readonly string[] {
    return this.#ownership?.formerSessions ?? [];
  }
  /** Redis's time, as far as it is known. */
  redisNowMs(): number {
    return this.#clock.nowMs();
  }

  /** Takes the state folder. @throws as `Ownership.take`. */
  async takeFolder(): Promise<void> {
    const { stateDir, say } = this.#options;
    this.#ownership = await Ownership.take(this.dir, stateDir, undefined, say);
    this.#incarnation = this.#ownership.former?.incarnation ?? 0;
  }

  /** The processes of all former sessions except `needed` have ended, so the next run of the worker need not look for them. */
  forgetSessions(needed: ReadonlySet<string>): void {
    this.#ownership?.forgetOldest(needed);
  }

  /** May the lease of the last run of the worker still run? Then nobody can have given its stitches to other nodes. */
  mayRunAlone(): boolean {
    return this.#lastBeat.leftMs(this.#options.nowMs(), this.#options.leaseMs) > 0;
  }

  /**
   * Records the owner of the state folder, and the watchdog that ends the processes which the worker leaves behind. The
   * next run of the worker waits for that watchdog.
   * @throws if the write fails before the node has joined. Later the folder names this worker already, and a disk that does
   *   not answer must not cost the lease.
   */
  async recordOwner(): Promise<void> {
    const { pid: watchdogPid } = this.#options.watchdog;
    const now = { session: this.session, incarnation: this.#incarnation, pid: process.pid, watchdogPid };
    const recorded = this.#ownership?.record(now);
    if (this.#hasJoined) recorded?.catch(this.#options.onError);
    else await recorded;
  }

  async learnEligibility(): Promise<void> {
    this.#eligibility = await this.#options.master.orders.eligibility();
  }

  /**
   * Takes the id for a new incarnation, then reconciles. Waits once for the lease of another worker to end.
   * @throws NodeIdTaken if that worker renews its lease; the connection's error.
   */
  async register(contents: NodeContents): Promise<void> {
    const { node, say } = this.#options;
    contents.publisher.hold();
    let asked = this.#lease.ask();
    let answer = await this.#askToRegister(contents);
    if (!answer.ok) {
      const { leaseLeftMs } = answer;
      say(`another worker holds the id ${node}; waiting ${leaseLeftMs} ms for its lease to end`);
      await new Promise((resolve) => setTimeout(resolve, leaseLeftMs + 50));
      asked = this.#lease.ask();
      answer = await this.#askToRegister(contents);
    }
    if (!answer.ok)
      throw new NodeIdTaken(
        `another live worker holds the id ${node}: it renewed its lease meanwhile. Stop it, or set another STITCH_NODE_ID.`,
      );
    this.#incarnation = answer.incarnation;
    this.#isReconciled = false;
    this.#renewed(asked);
    this.#beats = 0;
    this.#clock.told(answer.nowMs, asked.steadyAtMs);
    contents.publisher.begin(answer.incarnation);
    await this.recordOwner();
    this.#isBack ||= answer.wasSilent;
    await this.#reconcile(contents);
  }

  async #askToRegister({ registry }: NodeContents) {
    const { master, leaseMs, facts } = this.#options;
    // First, before Redis knows this session: a worker killed in between
    // would make its own next run wait for the end of the lease.
    await this.recordOwner();
    return master.publishing.register({
      session: this.session,
      formerSessions: this.formerSessions,
      leaseMs,
      facts,
      status: registry.status(this.#eligibility),
      leastIncarnation: this.#incarnation,
    });
  }

  /** Merges the records of Redis with those of this node, and publishes all of them. Call this again if it fails. */
  async #reconcile(contents: NodeContents): Promise<void> {
    const { host, registry, publisher, specs, tombstones } = contents;
    const { node, keys, connections, master, facts, onError } = this.#options;
    const { publishing, orders } = master;
    // First, before the node's stitches can be found: messages to a node without an inbox are refused.
    const [owner] = await Promise.all([
      createInbox(connections.shared, keys, node, this.#incarnation),
      // A Redis that has lost the node's record may still have the orders of Masters for it.
      this.learnEligibility(),
      publishing.open(),
      openNodeQueue(connections.direct, keys, node),
    ]);
    if (owner > this.#incarnation) {
      // Redis has lost the node's record but kept its inbox, which would refuse the acknowledgements of this incarnation.
      this.#incarnation = owner;
      await this.register(contents);
      return;
    }
    this.#lastTaken = await lastEntryRead(connections.shared, keys, node);
    host.merge(
      await onlyAssigned(await publishing.published(onError), { node, host, registry, orders, specs, onError }),
    );
    specs.offer(registry.specHashes()).catch(onError);
    await tombstones.obey();
    // The stitches whose lost spec is here again.
    host.resumeHeldUp();
    await orders.raiseRevision(registry.highestRevision());
    publisher.open();
    const data = { incarnation: this.#incarnation, version: facts.version };
    publisher.publish(registry.snapshot(), [{ type: this.#isBack ? "node.back" : "node.joined", node, data }]);
    this.#isBack = true;
    this.#hasJoined = true;
    this.#isReconciled = true;
    await publisher.flush();
  }

  /**
   * Renews the lease, or registers again if Redis does not know this incarnation.
   * @returns the number of tombstones ever written for the node; null if it has registered again.
   * @throws NodeIdTaken if another worker has the id now; the connection's error.
   */
  async beat(contents: NodeContents, load: NodeLoad): Promise<number | null> {
    const { node, master, leaseMs, say } = this.#options;
    const { registry, publisher } = contents;
    const asked = this.#lease.ask();
    const { known } = publisher;
    const reply = await within(
      leaseMs / 2,
      master.publishing.beat({
        session: this.session,
        incarnation: this.#incarnation,
        leaseMs,
        status: registry.status(this.#eligibility),
        load,
        beats: this.#beats,
        leaseUntilHintMs: this.#clock.nowMs() + leaseMs,
      }),
    );
    if (reply.outcome === "other" && this.#isFencedBy(reply))
      throw new NodeIdTaken(`another worker has taken the id ${node}; this one stops its stitches and ends`);
    if (reply.outcome !== "ok") {
      say(`${WHY_AGAIN[reply.outcome]}; registering again`);
      await this.register(contents);
      return null;
    }
    this.#beats = reply.beats;
    this.#renewed(asked);
    this.#eligibility = reply.eligibility ?? this.#eligibility;
    this.#clock.told(reply.nowMs, asked.steadyAtMs);
    publisher.heard(reply.published, known);
    return reply.tombstones;
  }

  /** Updates what Redis and this node may not know about each other. @param tombstones the result of `beat`. */
  async afterBeat(contents: NodeContents, tombstones: number): Promise<void> {
    const { node, keys, connections, master } = this.#options;
    const { publisher } = contents;
    // A Master that was forgetting the node while it registered may have taken it off the list afterwards.
    if (this.#beats % REPAIR_EVERY === 0)
      await Promise.all([master.publishing.relist(), openNodeQueue(connections.direct, keys, node)]);
    if (this.#isReconciled) {
      // A publication may have reached a Redis with another incarnation, and held back all later publications.
      publisher.open();
      await publisher.flush();
    } else await this.#reconcile(contents);
    await contents.tombstones.beat(tombstones);
  }

  /** A request of that time renewed the lease. When the lease ends, the watchdog ends the stitches that must not outlive it. */
  #renewed(asked: RequestTime): void {
    this.#options.watchdog.leaseHolds(this.#lease.renewed(asked));
    this.#lastBeat.holdsUntil(asked.atMs + this.#options.leaseMs);
  }

  /** Only a later incarnation with another worker's session fences this worker. Otherwise Redis is older than this worker. */
  #isFencedBy({ session, incarnation }: { session: string; incarnation: number }): boolean {
    const isOwn = session === this.session || this.formerSessions.includes(session);
    return !isOwn && incarnation > this.#incarnation;
  }

  /** Publishes the changes that are left, and gives the lease back. @throws if Redis does not answer. */
  async leave({ publisher }: Pick<NodeContents, "publisher">): Promise<void> {
    // From then on, another node may have the stitches of this node.
    await orLate(this.#lastBeat.isGivenBack(), GIVE_BACK_MS);
    await publisher.flush();
    await this.#options.master.publishing.leave({ session: this.session, incarnation: this.#incarnation });
  }

  /** `onLeaseEnd` is not called any more. Safe to repeat. */
  close(): void {
    this.#lease.close();
  }

  /** Waits until the last heartbeat is on disk. */
  async lastBeatWritten(): Promise<void> {
    await this.#lastBeat.close();
  }

  /** Releases the state folder. Safe to repeat. */
  async releaseFolder(): Promise<void> {
    await this.#ownership?.release();
  }
}
