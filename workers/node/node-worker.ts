import { randomUUID } from "node:crypto";
import { LATE, orLate, pause, within } from "../../src/bounded-wait.ts";
import type { NodeFacts } from "../../src/domain/node/node.ts";
import { openNodePorts } from "../../src/master/node-ports.ts";
import type { NodePorts } from "../../src/master/ports.ts";
import { isRedisUnavailable } from "../../src/redis/connection/connection.ts";
import { refuseUnfitServer } from "../../src/redis/connection/fit-server.ts";
import { refuseOtherFormat } from "../../src/redis/format.ts";
import { Keys } from "../../src/redis/keys.ts";
import type { StitchModule } from "./adaptors/module.ts";
import { Connections } from "./membership/connections.ts";
import { Heartbeats } from "./membership/heartbeats.ts";
import { LoadMeter } from "./membership/load.ts";
import { Membership, NodeIdTaken } from "./membership/membership.ts";
import { openParts, type Parts } from "./node-parts.ts";
import { Watchdog } from "./processes/watchdog.ts";
import { StitchDisk } from "./stitches/stitch-disk.ts";
import { endOrphans, forgetEndedLives, prune } from "./upkeep.ts";
import { finishWork, openMessages, openTasks, type WorkOptions } from "./node-work.ts";
import type { NodeMessages } from "./messages/node-messages.ts";
import type { TaskWorker } from "./tasks/task-worker.ts";

export type NodeWorkerOptions = {
  readonly redisUrl: string;
  readonly cluster: string;
  readonly id: string;
  readonly facts: NodeFacts;
  /** The modules that the node runs inside itself, by name: as in `facts.modules`. */
  readonly modules: ReadonlyMap<string, StitchModule>;
  readonly stateDir: string;
  readonly heartbeatMs: number;
  readonly leaseMs: number;
  readonly connectTimeoutMs: number;
  readonly nowMs: () => number;
  readonly random: () => number;
  /** Called with messages that an operator must know. */
  readonly say: (message: string) => void;
  /** Called with messages that an operator may like to know. */
  readonly note: (message: string) => void;
  readonly onError: (error: unknown) => void;
};

/** Longest wait for each of the last steps of a stop. */
const KILL_MS = 2000;
/**
 * After it has reached Redis again, the node beats within this time.
 * Many nodes come back at one moment, and each may have to register.
 */
const BACK_WITHIN_MS = 1000;
/** How often removed stitches are checked. */
const PRUNE_MS = 600_000;
/** Redis counts as away if it has not answered this long after the start. */
const AWAY_MS = 1000;
/** The longest delay that a timer takes. */
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
  /** Functions that close what is open, in the order of opening; called from last to first. Each may be called twice. */
  readonly #closers: (() => void)[] = [];
  #disk: StitchDisk | null = null;
  #parts: Parts | null = null;
  #tasks: TaskWorker | null = null;
  #messages: NodeMessages | null = null;
  /** The joining of a worker that has started while Redis was away; null if the worker joins within its start. */
  #joining: Promise<void> | null = null;
  /** The work after a heartbeat, while it is in progress. */
  #following: Promise<void> | null = null;
  #lastPruneMs = Number.NEGATIVE_INFINITY;
  #stopping: Promise<void> | null = null;
  readonly #ended = Promise.withResolvers<void>();
  /** Resolves when the node has left; rejects if it was fenced or its queue broke. */
  readonly ended: Promise<void> = this.#ended.promise;

  constructor(options: NodeWorkerOptions) {
    this.#options = options;
    const { redisUrl, cluster, id: node, heartbeatMs, random, onError } = options;
    this.#keys = new Keys(cluster);
    this.#connections = new Connections(redisUrl, onError);
    this.#closers.push(() => this.#connections.disconnect());
    const { shared: redis, direct } = this.#connections;
    this.#master = openNodePorts({ redis, direct, keys: this.#keys, node });
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
    // The caller of the worker waits for this promise. If nobody waits yet, its rejection must not end the process.
    this.ended.catch(() => undefined);
  }

  get incarnation(): number {
    return this.#membership.incarnation;
  }
  /** Is the node in the cluster? Not yet if it has started while Redis was away. */
  get isJoined(): boolean {
    return this.#state === "running";
  }

  /** Has it joined, and does its lease run? */
  get isAlive(): boolean {
    return this.isJoined && this.#membership.leaseLeftMs > 0;
  }

  /**
   * Starts the node. If Redis does not answer and the lease of the last run may still run, resolves when the stitches that go on
   * without Redis (`onDisconnect: "keep"`) are started; the node joins once Redis answers, and `ended` rejects if it cannot.
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

  /** Reads the disk, and ends the processes that earlier runs of the worker left. Asks Redis for nothing. */
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
      delivery: () => this.#messages?.delivery ?? null,
      lastMail: () => this.#messages?.delivery.lastTaken ?? this.#membership.lastTaken,
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

  /** Starts the stitches that go on without Redis. @returns false if it is too late for that: then nothing is started. */
  async #runAlone({ host }: Parts): Promise<boolean> {
    this.#watchdog.start();
    await this.#membership.recordOwner();
    if (this.#state !== "starting" || !this.#membership.mayRunAlone()) return false;
    this.#options.say(
      "Redis does not answer: stitches that go on without it are started from this disk, all else waits for it",
    );
    host.resumeAlone();
    return true;
  }

  /** Joins the cluster after the node has run alone. Running stitches must not end because Redis is not well yet. */
  async #joinInTheEnd(parts: Parts): Promise<void> {
    for (;;) {
      try {
        return await this.#join(parts);
      } catch (error) {
        if (this.#state !== "starting" || this.#tasks !== null || !isRedisUnavailable(error)) throw error;
        this.#options.onError(error);
      }
      await pause(AWAY_MS);
    }
  }

  /** Registers, and begins the work. Call this once Redis answers. */
  async #join(parts: Parts): Promise<void> {
    const { host, handles, launcher } = parts;
    const { shared } = this.#connections;
    await Promise.all([refuseUnfitServer(shared), refuseOtherFormat(shared, this.#keys)]);
    if (handles.text !== null) this.#options.note(handles.text);
    if (launcher.missing !== null) this.#options.say(launcher.missing);
    this.#watchdog.start();
    // The worker may have been told to leave while it ran alone.
    const isWanted = () => this.#state === "starting";
    if (!isWanted()) return;
    await this.#membership.register(parts);
    if (!isWanted()) return;
    // The rest of the start may take longer than the lease.
    this.#heartbeats.begin();
    host.resume();
    this.#tasks = openTasks(parts, this.#workOptions());
    await this.#tasks.start(parts.tasks, (error) => this.#fail(error));
    if (!isWanted()) return;
    const messages = openMessages(parts, this.#workOptions());
    this.#messages = messages;
    this.#closers.push(() => messages.kill());
    await messages.start();
    // If the worker was told to leave meanwhile, or lost its id, its state stays as it is.
    if (isWanted()) this.#become("running");
  }

  #workOptions(): WorkOptions {
    const { id: node, say, onError } = this.#options;
    return {
      node,
      keys: this.#keys,
      connections: this.#connections,
      master: this.#master,
      membership: this.#membership,
      hasEnded: () => this.#state === "ended",
      nextBeat: () => this.#heartbeats.next(),
      say,
      onError,
    };
  }

  async #beat(): Promise<void> {
    const parts = this.#parts;
    if (parts === null) return;
    const { host, registry, publisher } = parts;
    const { heartbeatMs, onError } = this.#options;
    endOrphans(parts, this.#membership).catch(onError);
    // During the heartbeat's round trip. Pointers are on other shards, which must not cost the lease.
    publisher.assertPointers(() => registry.idsWithRemoved(), heartbeatMs).catch(onError);
    const tombstones = await this.#membership.beat(parts, this.#load.measure()).catch((error: unknown) => {
      // A worker that leaves reports it, and goes on leaving.
      if (!(error instanceof NodeIdTaken) || this.#state === "leaving") throw error;
      this.#fail(error);
      return "fenced" as const;
    });
    if (tombstones === "fenced") return;
    if (tombstones === null) {
      host.leaseIsBack();
      return;
    }
    // The following work also needs other servers of a Redis Cluster: a server that hangs must not cost the lease.
    this.#following ??= this.#afterBeat(parts, tombstones)
      .catch(onError)
      .finally(() => (this.#following = null));
    await orLate(this.#following, heartbeatMs / 2);
  }

  /** The work that is due after a renewal of the lease. One at a time: a heartbeat may find the last one still in progress. */
  async #afterBeat(parts: Parts, tombstones: number): Promise<void> {
    await this.#membership.afterBeat(parts, tombstones);
    parts.host.leaseIsBack();
    parts.measurements.beat(parts.registry).catch(this.#options.onError);
    // Failed writes are tried again; the disk has reported them.
    parts.disk.written().catch(() => undefined);
    if (performance.now() - this.#lastPruneMs <= PRUNE_MS) return;
    this.#lastPruneMs = performance.now();
    // A slow disk must not hold up a heartbeat.
    prune(parts, this.#master.publishing).catch(this.#options.onError);
  }

  /**
   * Leaves the cluster: takes nothing more, finishes or hands back tasks, stops every stitch, gives the lease back. Bounded
   * in time; may be called twice and at once.
   */
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
    await finishWork(this.#parts, { tasks: this.#tasks, messages: this.#messages }, onError);
    // A registration in progress must not come after the leave. Its failure does not matter any more.
    if (this.#connections.shared.status === "ready")
      await within(KILL_MS, this.#joining ?? Promise.resolve()).catch(() => undefined);
    // The node beats until here: leaving may take longer than the lease, and outcomes are reported under the lease.
    this.#become("ended");
    await within(KILL_MS, this.#heartbeats.end()).catch(onError);
    if (this.#parts !== null) await within(KILL_MS, this.#membership.leave(this.#parts)).catch(onError);
    await this.#close();
    this.#ended.resolve();
  }

  /** Closes everything at once. The watchdog kills what still runs, as if the worker had died. */
  kill(): void {
    this.#become("ended");
    this.#fallSilent();
  }

  /** Ends the worker on an error: kills its stitches, and says nothing in Redis, where another worker may have the id. */
  #fail(error: unknown): void {
    if (this.#state === "leaving" || this.#state === "ended") return;
    this.#become("ended");
    const { onError } = this.#options;
    this.#parts?.publisher.mute();
    const end = async () => {
      await within(KILL_MS, this.#parts?.host.stopAll(0) ?? Promise.resolve()).catch(onError);
      await this.#tasks?.stop(0).catch(onError);
      await this.#close();
      this.#ended.reject(error);
    };
    this.#stopping = end();
    this.#stopping.catch(onError);
  }

  async #close(): Promise<void> {
    this.#fallSilent();
    this.#watchdog.end();
    // If the disk does not answer, this process keeps the folder until it ends.
    await within(KILL_MS, this.#membership.lastBeatWritten()).catch(this.#options.onError);
    if ((await this.#disk?.close()) !== false) await this.#membership.releaseFolder();
  }

  /** Closes what is open: nothing more is asked of Redis, or written to it. Safe to repeat. */
  #fallSilent(): void {
    for (const close of this.#closers.toReversed()) close();
  }

  /** The only place where the state changes. A worker that has ended stays so, and does not beat. */
  #become(state: State): void {
    if (this.#state !== "ended") this.#state = state;
    if (this.#state === "ended") void this.#heartbeats.end();
  }
}
