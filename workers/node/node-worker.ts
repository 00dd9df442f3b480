import { randomUUID } from "node:crypto";
import { LATE, orLate, pause, within } from "../../src/bounded-wait.ts";
import type { ChosenMaster } from "../../src/domain/master-mode.ts";
import type { NodeFacts } from "../../src/domain/node/node.ts";
import { openNodePorts } from "../../src/master/node-ports.ts";
import type { NodePorts } from "../../src/master/ports.ts";
import { isRedisUnavailable, refuseEviction } from "../../src/redis/connection/connection.ts";
import { refuseOtherFormat } from "../../src/redis/format.ts";
import { Keys } from "../../src/redis/keys.ts";
import type { StitchModule } from "./adaptors/module.ts";
import { Connections } from "./membership/connections.ts";
import { Heartbeats } from "./membership/heartbeats.ts";
import { LoadMeter } from "./membership/load.ts";
import { Membership, NodeIdTaken } from "./membership/membership.ts";
import { openParts, type Parts } from "./parts.ts";
import { Watchdog } from "./processes/watchdog.ts";
import { StitchDisk } from "./stitches/stitch-disk.ts";
import { endOrphans, forgetEndedLives, prune } from "./upkeep.ts";
import { finishWork, openWork, type Work } from "./work.ts";

export type NodeWorkerOptions = {
  readonly redisUrl: string;
  readonly cluster: string;
  /** Which Master the cluster has. */
  readonly master: ChosenMaster;
  readonly id: string;
  readonly facts: NodeFacts;
  /** What it offers to run inside itself, by name: as in `facts.modules`. */
  readonly modules: ReadonlyMap<string, StitchModule>;
  readonly stateDir: string;
  readonly heartbeatMs: number;
  readonly leaseMs: number;
  readonly connectTimeoutMs: number;
  readonly nowMs: () => number;
  readonly random: () => number;
  /** Told what an operator must know of. */
  readonly say: (message: string) => void;
  /** Told what an operator may like to know. */
  readonly note: (message: string) => void;
  readonly onError: (error: unknown) => void;
};

/** Longest that each of the last steps is waited for. */
const KILL_MS = 2000;
/** It beats this soon after it has reached Redis again: many nodes do so in one moment, and each may have to register. */
const BACK_WITHIN_MS = 1000;
/** How often removed stitches are looked through. */
const PRUNE_MS = 600_000;
/** Redis counts as away where it has not answered so long after the start. */
const AWAY_MS = 1000;
/** The longest that a timer takes. */
const FOR_EVER_MS = 2 ** 31 - 1;

type State = "new" | "starting" | "running" | "leaving" | "ended";

/**
 * A node: registers, beats, takes its tasks, hosts its stitches, leaves.
 *
 * ```text
 * new ──▶ starting ──▶ running ──▶ leaving ──▶ ended
 *  │          └───────────┼───────────▲          ▲     it was told to stop
 *  └──────────┴───────────┴──────────────────────┘     it could not start, lost its id, was killed
 * ```
 */
export class NodeWorker {
  readonly #options: NodeWorkerOptions;
  readonly #keys: Keys;
  readonly #connections: Connections;
  readonly #master: NodePorts;
  readonly #watchdog: Watchdog;
  readonly #membership: Membership;
  readonly #heartbeats: Heartbeats;
  readonly #load = new LoadMeter();
  #state: State = "new";
  /** What is open, the first opened first: closed from the last to the first. Each may be called twice. */
  readonly #closers: (() => void)[] = [];
  #disk: StitchDisk | null = null;
  #parts: Parts | null = null;
  #work: Work | null = null;
  /** Of a worker that has started with Redis away; null where it joins within its start. */
  #joining: Promise<void> | null = null;
  /** What follows a heartbeat, while it is under way. */
  #following: Promise<void> | null = null;
  #lastPruneMs = Number.NEGATIVE_INFINITY;
  #stopping: Promise<void> | null = null;
  readonly #ended = Promise.withResolvers<void>();
  /** Resolves when it has left; rejects where it was fenced or its queue broke. */
  readonly ended: Promise<void> = this.#ended.promise;

  constructor(options: NodeWorkerOptions) {
    this.#options = options;
    const { redisUrl, cluster, master, id: node, heartbeatMs, random, onError } = options;
    this.#keys = new Keys(cluster);
    this.#connections = new Connections(redisUrl, onError);
    this.#closers.push(() => this.#connections.disconnect());
    const { shared: redis, direct } = this.#connections;
    this.#master = openNodePorts(master, { redis, direct, keys: this.#keys, node });
    const session = randomUUID();
    this.#watchdog = new Watchdog(session, onError, () => {
      this.#membership.recordOwner().catch(onError);
    });
    this.#membership = new Membership({
      ...options,
      session,
      node,
      keys: this.#keys,
      connections: this.#connections,
      master: this.#master,
      watchdog: this.#watchdog,
      onLeaseEnd: () => this.#parts?.host.leaseIsOver(),
    });
    this.#heartbeats = new Heartbeats({ heartbeatMs, random, beat: () => this.#beat(), onError });
    // Until the next beat, the node may count as dead, and commands for it are refused.
    redis.on("ready", () => this.#heartbeats.bringForward(BACK_WITHIN_MS));
    this.#closers.push(() => {
      this.#heartbeats.close();
      this.#membership.close();
      this.#load.stop();
    });
    // Whoever runs the worker waits for it; where nobody does yet, its failure must not end the process unasked.
    this.ended.catch(() => undefined);
  }

  get incarnation(): number {
    return this.#membership.incarnation;
  }
  /** Is it in the cluster? Not yet where it has started with Redis away. */
  get isJoined(): boolean {
    return this.#state === "running";
  }

  /**
   * Where Redis does not answer, and the lease of the last life may still run, resolves when the stitches are started that go on
   * without Redis (`onDisconnect: "keep"`): it joins the cluster once Redis answers, and `ended` tells where it cannot.
   * @throws StateFolderTaken, NodeIdTaken, RedisRefused, or the connection error; nothing is left behind then.
   */
  async start(): Promise<void> {
    this.#become("starting");
    try {
      const parts = await this.#openParts();
      const { connectTimeoutMs } = this.#options;
      const mayRunAlone = () => this.#membership.mayRunAlone();
      const connected = this.#connections.connect(mayRunAlone() ? FOR_EVER_MS : connectTimeoutMs);
      const isAway = mayRunAlone() && (await orLate(connected, AWAY_MS)) === LATE;
      if (isAway && (await this.#runAlone(parts))) {
        this.#joining = connected.then(() => this.#joinInTheEnd(parts));
        this.#joining.catch((error: unknown) => this.#fail(error));
        return;
      }
      if (isAway) await within(connectTimeoutMs, connected, `Redis did not answer within ${connectTimeoutMs} ms`);
      await connected;
      await this.#join(parts);
    } catch (error) {
      this.#become("ended");
      await this.#close();
      throw error;
    }
  }

  /** Reads what is on the disk, and ends what former lives have left. Nothing is asked of Redis. */
  async #openParts(): Promise<Parts> {
    const { id: node, facts, modules, random, say, onError } = this.#options;
    await this.#membership.takeFolder();
    this.#disk = new StitchDisk(this.#membership.dir, onError);
    const parts = await openParts(this.#disk, {
      node,
      facts,
      modules,
      master: this.#master,
      membership: this.#membership,
      watchdog: this.#watchdog,
      delivery: () => this.#work?.messages.delivery ?? null,
      lastMail: () => this.#work?.messages.delivery.lastTaken ?? this.#membership.lastTaken,
      nowMs: () => this.#membership.redisNowMs(),
      steadyNowMs: () => performance.now(),
      random,
      say,
      onError,
    });
    this.#parts = parts;
    this.#closers.push(() => {
      parts.publisher.mute();
      void parts.outbox.stop();
    });
    forgetEndedLives(parts, this.#membership);
    return parts;
  }

  /** Starts, with Redis away, what goes on without Redis. @returns false where it is too late for that: nothing is started. */
  async #runAlone({ host }: Parts): Promise<boolean> {
    this.#watchdog.start();
    await this.#membership.recordOwner();
    if (!this.#membership.mayRunAlone()) return false;
    this.#options.say(
      "Redis does not answer: stitches that go on without it are started from this disk, all else waits for it",
    );
    host.resumeAlone();
    return true;
  }

  /** Joins, after it has run alone. What runs must not end because Redis is not well yet. */
  async #joinInTheEnd(parts: Parts): Promise<void> {
    for (;;) {
      try {
        return await this.#join(parts);
      } catch (error) {
        if (this.#state !== "starting" || this.#work !== null || !isRedisUnavailable(error)) throw error;
        this.#options.onError(error);
      }
      await pause(AWAY_MS);
    }
  }

  /** Registers, and begins its work. To be called once Redis answers. */
  async #join(parts: Parts): Promise<void> {
    const { host, handles, launcher } = parts;
    const { shared } = this.#connections;
    await Promise.all([refuseEviction(shared), refuseOtherFormat(shared, this.#keys)]);
    if (handles.text !== null) this.#options.note(handles.text);
    if (launcher.missing !== null) this.#options.say(launcher.missing);
    this.#watchdog.start();
    // It may have been told to leave while it ran alone.
    const isWanted = () => this.#state === "starting";
    if (!isWanted()) return;
    await this.#membership.register(parts);
    if (!isWanted()) return;
    // What is still to be done may take longer than the lease.
    this.#heartbeats.begin();
    host.resume();
    const work = this.#openWork(parts);
    await work.tasks.start(parts.tasks, (error) => this.#fail(error));
    if (!isWanted()) return;
    await work.messages.start();
    // It may have been told to leave meanwhile, or have lost its id: that stands.
    if (isWanted()) this.#become("running");
  }

  #openWork(parts: Parts): Work {
    const { id: node, say, onError } = this.#options;
    const work = openWork(parts, {
      node,
      keys: this.#keys,
      connections: this.#connections,
      master: this.#master,
      membership: this.#membership,
      hasEnded: () => this.#state === "ended",
      nextBeat: () => this.#heartbeats.next(),
      say,
      onError,
    });
    this.#work = work;
    this.#closers.push(() => work.messages.kill());
    return work;
  }

  async #beat(): Promise<void> {
    const parts = this.#parts;
    if (parts === null) return;
    const { host, registry, publisher } = parts;
    const { heartbeatMs, onError } = this.#options;
    endOrphans(parts, this.#membership).catch(onError);
    // In the heartbeat's round trip. They are on other shards, which must not cost the lease.
    publisher.assertPointers(() => registry.idsWithRemoved(), heartbeatMs).catch(onError);
    const tombstones = await this.#membership.beat(parts, this.#load.measure()).catch((error: unknown) => {
      if (!(error instanceof NodeIdTaken)) throw error;
      this.#fail(error);
      return "fenced" as const;
    });
    if (tombstones === "fenced") return;
    if (tombstones === null) {
      host.leaseIsBack();
      return;
    }
    // What follows needs other servers of a Redis Cluster, too: one that hangs must not cost the lease.
    this.#following ??= this.#afterBeat(parts, tombstones)
      .catch(onError)
      .finally(() => (this.#following = null));
    await orLate(this.#following, heartbeatMs / 2);
  }

  /** What is due once the lease has been renewed. One at a time, where a heartbeat finds the former still under way. */
  async #afterBeat(parts: Parts, tombstones: number): Promise<void> {
    await this.#membership.afterBeat(parts, tombstones);
    parts.host.leaseIsBack();
    parts.measurements.beat(parts.registry).catch(this.#options.onError);
    // What could not be written is tried again; the disk has reported it.
    parts.disk.written().catch(() => undefined);
    if (performance.now() - this.#lastPruneMs <= PRUNE_MS) return;
    this.#lastPruneMs = performance.now();
    // A slow disk must not hold up a heartbeat.
    prune(parts, this.#master.publishing).catch(this.#options.onError);
  }

  /** Leaves: takes nothing more, finishes or hands back, stops every stitch, says so. Bounded; may be called twice and at once. */
  stop(): Promise<void> {
    this.#stopping ??= this.#leave();
    return this.#stopping;
  }

  async #leave(): Promise<void> {
    if (this.#state === "ended" || this.#state === "new") {
      await this.#close();
      return;
    }
    this.#become("leaving");
    const { onError } = this.#options;
    await finishWork(this.#parts, this.#work, onError);
    // A registration that is under way must not come after the farewell. Why it could not join is no matter any more.
    if (this.#connections.shared.status === "ready")
      await within(KILL_MS, this.#joining ?? Promise.resolve()).catch(() => undefined);
    // It beats until here: leaving may take longer than the lease, and what it finishes meanwhile it tells under the lease.
    this.#become("ended");
    await within(KILL_MS, this.#heartbeats.end()).catch(onError);
    if (this.#parts !== null) await within(KILL_MS, this.#membership.leave(this.#parts)).catch(onError);
    await this.#close();
    this.#ended.resolve();
  }

  /** Lets go of everything at once. The watchdog kills what still runs, as if the worker had died. */
  kill(): void {
    this.#become("ended");
    this.#fallSilent();
  }

  /** Ends because it must: stitches are killed, nothing is said in Redis, where the id may be another's. */
  #fail(error: unknown): void {
    if (this.#state === "leaving" || this.#state === "ended") return;
    this.#become("ended");
    const { onError } = this.#options;
    this.#parts?.publisher.mute();
    const end = async () => {
      await within(KILL_MS, this.#parts?.host.stopAll(0) ?? Promise.resolve()).catch(onError);
      await this.#work?.tasks.stop(0).catch(onError);
      await this.#close();
      this.#ended.reject(error);
    };
    this.#stopping = end();
    this.#stopping.catch(onError);
  }

  async #close(): Promise<void> {
    this.#fallSilent();
    this.#watchdog.end();
    // Where the disk does not answer, the folder stays this process's until it ends.
    await within(KILL_MS, this.#membership.lastBeatWritten()).catch(this.#options.onError);
    if ((await this.#disk?.close()) !== false) await this.#membership.releaseFolder();
  }

  /** Nothing more is asked of Redis, or told to it. Safe to repeat. */
  #fallSilent(): void {
    for (const close of this.#closers.toReversed()) close();
  }

  /** The only place where the state changes. What has ended stays so, and does not beat. */
  #become(state: State): void {
    if (this.#state !== "ended") this.#state = state;
    if (this.#state === "ended") void this.#heartbeats.end();
  }
}
