import { randomUUID } from "node:crypto";
import { join } from "node:path";
import { LATE, orLate, pause, within } from "../../src/bounded-wait.ts";
import type { Dispatch } from "../../src/domain/job/job.ts";
import type { Eligibility, NodeFacts } from "../../src/domain/node/node.ts";
import type { ChosenMaster } from "../../src/domain/master-mode.ts";
import { openNodePorts } from "../../src/master/node-ports.ts";
import type { NodePorts } from "../../src/master/ports.ts";
import { NodeQueueWorker, openNodeQueue } from "../../src/queue/node-queue.ts";
import type { RedisClient } from "../../src/redis/connection/client.ts";
import {
  type ConnectionRole,
  connectRedis,
  isRedisUnavailable,
  openRedis,
  refuseEviction,
} from "../../src/redis/connection/connection.ts";
import { refuseOtherFormat } from "../../src/redis/format.ts";
import { createInbox, lastEntryRead } from "../../src/redis/inbox/inbox.ts";
import { Keys } from "../../src/redis/keys.ts";
import { ServerWatch } from "../../src/redis/connection/server-watch.ts";
import { asAssigned } from "./stitches/as-assigned.ts";
import type { StitchModule } from "./adaptors/module.ts";
import { InboxReader } from "./messages/inbox-reader.ts";
import { type RequestTime, Lease } from "./membership/lease.ts";
import { Heartbeats } from "./membership/heartbeats.ts";
import { LastBeat } from "./membership/last-beat.ts";
import { readBootId } from "./processes/launches.ts";
import { LoadMeter } from "./membership/load.ts";
import { LogQuestions } from "./messages/log-questions.ts";
import type { Outbox } from "./sending/outbox.ts";
import { ObeyedTombstones } from "./stitches/obeyed-tombstones.ts";
import { MessageDelivery } from "./messages/message-delivery.ts";
import { Ownership } from "./membership/ownership.ts";
import type { Publisher } from "./stitches/publisher.ts";
import { RedisClock } from "./membership/redis-clock.ts";
import type { Specs } from "./stitches/specs.ts";
import { StitchDisk } from "./stitches/stitch-disk.ts";
import type { StitchHost } from "./stitches/stitch-host.ts";
import { openParts, type Parts } from "./parts.ts";
import { TaskJournal } from "./tasks/task-journal.ts";
import { TaskRunner } from "./tasks/task-runner.ts";
import { Watchdog } from "./processes/watchdog.ts";

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

/** Tasks at once on one node. Steps of different stitches run in parallel; most of the time they wait for processes. */
const CONCURRENCY = 64;
/** Longest a leaving worker waits for its stitches and its tasks, before it kills and hands back. */
const LEAVE_MS = 10_000;
const KILL_MS = 2000;
/** It beats this soon after it has reached Redis again: many nodes do so in one moment, and each may have to register. */
const BACK_WITHIN_MS = 1000;
/** How often removed stitches are looked through. */
const PRUNE_MS = 600_000;
/** Heartbeats from one look to the next whether the node is on the list of nodes, and its queue open. */
const LOOK_EVERY = 30;

/** Redis is taken for away, where it has not answered so long after the start. */
const AWAY_MS = 1000;
/** Longest that a disk is waited for, to be told that the lease was given back. */
const FORGET_MS = 500;
/** The longest that a timer takes. */
const FOR_EVER_MS = 2 ** 31 - 1;

const WHY_AGAIN = {
  gone: "Redis does not know this node",
  other: "Redis is older than this worker: it shows another life of the node",
  older: "Redis is older than this worker's last heartbeat",
  lapsed: "the lease has run out",
} as const;

/** Thrown when the id belongs to another worker that lives. */
export class NodeIdTaken extends Error {
  override readonly name = "NodeIdTaken";
}

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
  readonly #o: NodeWorkerOptions;
  readonly #keys: Keys;
  readonly #session = randomUUID();
  /** Of all its connections. */
  readonly #watch = new ServerWatch();
  readonly #redis: RedisClient;
  readonly #direct: RedisClient;
  readonly #master: NodePorts;
  readonly #blocking: RedisClient;
  readonly #watchdog: Watchdog;
  readonly #lease: Lease;
  readonly #load = new LoadMeter();
  readonly #tombstones: ObeyedTombstones;
  readonly #dir: string;
  #state: State = "new";
  #ownership: Ownership | null = null;
  readonly #lastBeat: LastBeat;
  #disk: StitchDisk | null = null;
  #parts: Parts | null = null;
  #queue: NodeQueueWorker | null = null;
  #journal: TaskJournal | null = null;
  #runner: TaskRunner | null = null;
  #inbox: InboxReader | null = null;
  #delivery: MessageDelivery | null = null;
  #logQuestions: LogQuestions | null = null;
  #incarnation = 0;
  #beats = 0;
  readonly #clock: RedisClock;
  /** The last entry of the inbox that a former life took. */
  #lastTaken = "0-0";
  /** Redis and this node know of each other what they did not, since it took the id. */
  #settled = false;
  #eligibility: Eligibility = "eligible";
  /** Of a worker that has started with Redis away; null where it joins within its start. */
  #joining: Promise<void> | null = null;
  readonly #heartbeats: Heartbeats;
  /** What follows a heartbeat, while it is under way. */
  #following: Promise<void> | null = null;
  #lastPruneMs = Number.NEGATIVE_INFINITY;
  #stopping: Promise<void> | null = null;
  readonly #ended = Promise.withResolvers<void>();
  /** Resolves when it has left; rejects where it was fenced or its queue broke. */
  readonly ended: Promise<void> = this.#ended.promise;

  constructor(options: NodeWorkerOptions) {
    this.#o = options;
    this.#keys = new Keys(options.cluster);
    this.#dir = join(options.stateDir, options.cluster, options.id);
    this.#lastBeat = new LastBeat(this.#dir, readBootId(), options.onError);
    const open = (role: ConnectionRole) => openRedis(options.redisUrl, role, options.onError, {}, this.#watch);
    this.#redis = open("shared");
    this.#direct = open("direct");
    this.#blocking = open("blocking");
    const { master, id: node } = options;
    this.#master = openNodePorts(master, { redis: this.#redis, direct: this.#direct, keys: this.#keys, node });
    this.#heartbeats = new Heartbeats({
      heartbeatMs: options.heartbeatMs,
      random: options.random,
      beat: () => this.#beat(),
      onError: options.onError,
    });
    // Until the next beat, the node may count as dead, and commands for it are refused.
    this.#redis.on("ready", () => this.#heartbeats.bringForward(BACK_WITHIN_MS));
    this.#watchdog = new Watchdog(this.#session, options.onError, () => {
      this.#recordOwner().catch(options.onError);
    });
    this.#lease = new Lease({
      leaseMs: options.leaseMs,
      nowMs: options.nowMs,
      steadyNowMs: () => Math.floor(performance.now()),
      onEnd: () => this.#parts?.host.leaseIsOver(),
    });
    this.#clock = new RedisClock({ nowMs: options.nowMs, steadyNowMs: () => performance.now() });
    this.#tombstones = new ObeyedTombstones(this.#master.orders, options.id, () => performance.now(), options.onError);
    // Whoever runs the worker waits for it; where nobody does yet, its failure must not end the process unasked.
    this.ended.catch(() => undefined);
  }

  get incarnation(): number {
    return this.#incarnation;
  }
  /** Is it in the cluster? Not yet where it has started with Redis away. */
  get isJoined(): boolean {
    return this.#state === "running";
  }

  /**
   * Where Redis does not answer, and the lease of the last life may run still, resolves when the stitches are started that go on
   * without Redis (`onDisconnect: "keep"`): it joins the cluster once Redis answers, and `ended` tells where it cannot.
   * @throws StateFolderTaken, NodeIdTaken, RedisRefused, or the connection error; nothing is left behind then.
   */
  async start(): Promise<void> {
    this.#become("starting");
    try {
      const parts = await this.#prepare();
      const { connectTimeoutMs } = this.#o;
      const connected = this.#connect(this.#mayRunAlone() ? FOR_EVER_MS : connectTimeoutMs);
      const isAway = this.#mayRunAlone() && (await orLate(connected, AWAY_MS)) === LATE;
      if (isAway && (await this.#runAlone(parts.host))) {
        this.#joining = connected.then(() => this.#joinInTheEnd(parts));
        this.#joining.catch((error: unknown) => this.#fail(error));
        return;
      }
      if (isAway) await within(connectTimeoutMs, connected, `Redis did not answer within ${connectTimeoutMs} ms`);
      await connected;
      await this.#join(parts);
    } catch (error) {
      this.#become("ended");
      await this.#letGo();
      throw error;
    }
  }

  async #connect(timeoutMs: number): Promise<void> {
    await Promise.all([this.#redis, this.#direct].map((each) => connectRedis(each, timeoutMs)));
  }

  /** Nobody can have given its stitches to other nodes, as long as the lease of its last life may run. */
  #mayRunAlone(): boolean {
    return this.#lastBeat.leftMs(this.#o.nowMs(), this.#o.leaseMs) > 0;
  }

  /** Starts, with Redis away, what goes on without Redis. @returns false where it is too late for that: nothing is started. */
  async #runAlone(host: StitchHost): Promise<boolean> {
    this.#watchdog.start();
    await this.#recordOwner();
    if (!this.#mayRunAlone()) return false;
    this.#o.say(
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
        if (this.#state !== "starting" || this.#queue !== null || !isRedisUnavailable(error)) throw error;
        this.#o.onError(error);
      }
      await pause(AWAY_MS);
    }
  }

  /** Takes what is on the disk, and ends what former lives have left. Nothing is asked of Redis. */
  async #prepare(): Promise<Parts> {
    const { id: node, facts, modules, random, say, onError } = this.#o;
    this.#ownership = await Ownership.take(this.#dir, this.#o.stateDir, undefined, say);
    this.#incarnation = this.#ownership.former?.incarnation ?? 0;
    const disk = new StitchDisk(this.#dir, onError);
    this.#disk = disk;
    const parts = await openParts(disk, {
      node,
      session: this.#session,
      formerSessions: this.#ownership.formerSessions,
      dir: this.#dir,
      facts,
      modules,
      master: this.#master,
      watchdog: this.#watchdog,
      tombstones: this.#tombstones,
      incarnation: () => this.#incarnation,
      eligibility: () => this.#eligibility,
      holdsId: () => this.#lease.holds,
      delivery: () => this.#delivery,
      lastMail: () => this.#delivery?.lastTaken ?? this.#lastTaken,
      nowMs: () => this.#clock.nowMs(),
      steadyNowMs: () => performance.now(),
      random,
      say,
      onError,
    });
    this.#parts = parts;
    this.#forgetEndedLives();
    return parts;
  }

  /** Registers, and takes up its work. To be called once Redis answers. */
  async #join({ host, publisher, outbox, specs, tasks, handles, launcher }: Parts): Promise<void> {
    await Promise.all([refuseEviction(this.#redis), refuseOtherFormat(this.#redis, this.#keys)]);
    if (handles.text !== null) this.#o.note(handles.text);
    if (launcher.missing !== null) this.#o.say(launcher.missing);
    this.#watchdog.start();
    // It may have been told to leave while it ran alone.
    const isWanted = () => this.#state === "starting";
    if (!isWanted()) return;
    await this.#register(host);
    if (!isWanted()) return;
    // What is still to be done may take longer than the lease.
    this.#heartbeats.begin();
    host.resume();
    await this.#takeTasks(host, publisher, specs, tasks);
    if (!isWanted()) return;
    await this.#readInbox(host, outbox);
    this.#isUp();
  }

  /** It may have been told to leave meanwhile, or have lost its id: that stands. */
  #isUp(): void {
    if (this.#state === "starting") this.#become("running");
  }

  /** @param left what a former life had taken up and not answered. */
  async #takeTasks(host: StitchHost, publisher: Publisher, specs: Specs, left: readonly Dispatch[]): Promise<void> {
    const nextBeat = () => this.#heartbeats.next();
    const disk = this.#disk;
    if (disk === null) throw new Error("takes tasks before it has its disk");
    const journal = new TaskJournal({ disk, nextBeat, onError: this.#o.onError });
    this.#journal = journal;
    const runner: TaskRunner = new TaskRunner({
      orders: this.#master.orders,
      host,
      publisher,
      journal,
      specs,
      incarnation: () => this.#incarnation,
      // One that was fenced has no say, though its lease may not have run out by its own clock.
      holdsId: () => this.#lease.holds && this.#state !== "ended",
      learnEligibility: async () => {
        this.#eligibility = await this.#master.orders.eligibility();
      },
      nextBeat,
      nowMs: () => this.#clock.nowMs(),
      say: this.#o.say,
      onError: this.#o.onError,
    });
    this.#runner = runner;
    // First, so that what BullMQ delivers again meanwhile is known to be under way.
    journal.resume(left, (task) => runner.runAgain(task));
    this.#queue = new NodeQueueWorker(
      this.#blocking,
      this.#keys,
      this.#o.id,
      CONCURRENCY,
      (task) => runner.run(task),
      this.#o.onError,
    );
    await this.#queue.start((error) => this.#fail(error));
  }

  async #readInbox(host: StitchHost, outbox: Outbox): Promise<void> {
    const { onError, id: node } = this.#o;
    const nowMs = () => this.#clock.nowMs();
    const incarnation = () => this.#incarnation;
    const common = { redis: this.#redis, keys: this.#keys, node, onError };
    const holdsId = () => this.#lease.holds;
    this.#logQuestions = new LogQuestions({ ...common, log: (id) => host.log(id), holdsId, nowMs });
    const { routing } = this.#master;
    const delivery = new MessageDelivery({
      ...common,
      routing,
      host,
      outbox,
      incarnation,
      lastTaken: this.#lastTaken,
      holdsId,
      nowMs,
    });
    this.#delivery = delivery;
    this.#inbox = new InboxReader({
      ...common,
      onMessage: (entry) => delivery.take(entry),
      messagesHeld: () => delivery.held,
      openBlocking: () => openRedis(this.#o.redisUrl, "blocking", onError, {}, this.#watch),
      handlers: this.#logQuestions.handlers,
      leaseLeftMs: () => this.#lease.leftMs,
      incarnation,
      redisNowMs: nowMs,
    });
    await this.#inbox.start();
  }

  /** The lease was renewed by a request of that time; the watchdog hears of it, and ends with it what must not outlive it. */
  #leaseSince(asked: RequestTime): void {
    this.#watchdog.leaseHolds(this.#lease.renewed(asked));
    this.#lastBeat.holdsUntil(asked.atMs + this.#o.leaseMs);
  }

  /** Takes the id for a new incarnation, then settles. */
  async #register(host: StitchHost): Promise<void> {
    const ask = async () => {
      // Before Redis knows of it: killed in between, it would keep its own next life waiting for the end of a lease.
      await this.#recordOwner();
      return this.#master.publishing.register({
        session: this.#session,
        formerSessions: this.#ownership?.formerSessions ?? [],
        leaseMs: this.#o.leaseMs,
        facts: this.#o.facts,
        status: host.status(),
        leastIncarnation: this.#incarnation,
      });
    };
    this.#parts?.publisher.hold();
    let asked = this.#lease.ask();
    let answer = await ask();
    if (!answer.ok) {
      this.#o.say(`another worker holds the id ${this.#o.id}; waiting ${answer.leaseLeftMs} ms for its lease to end`);
      await new Promise((resolve) => setTimeout(resolve, answer.ok ? 0 : answer.leaseLeftMs + 50));
      asked = this.#lease.ask();
      answer = await ask();
    }
    if (!answer.ok)
      throw new NodeIdTaken(
        `another live worker holds the id ${this.#o.id}: it renewed its lease meanwhile. Stop it, or set another STITCH_NODE_ID.`,
      );
    this.#incarnation = answer.incarnation;
    this.#settled = false;
    this.#leaseSince(asked);
    this.#beats = 0;
    this.#clock.told(answer.nowMs, asked.steadyAtMs);
    this.#parts?.publisher.begin(answer.incarnation);
    await this.#recordOwner();
    await this.#settle(host);
  }

  /** Merges what Redis holds with what this node holds, and publishes it all. To be repeated where it fails. */
  async #settle(host: StitchHost): Promise<void> {
    const { id } = this.#o;
    // Before its stitches can be found: who has no inbox is no node.
    const [owner, eligibility] = await Promise.all([
      createInbox(this.#redis, this.#keys, id, this.#incarnation),
      // A Redis that came back without the node may still have what Masters ordered of it.
      this.#master.orders.eligibility(),
      this.#master.publishing.open(),
      openNodeQueue(this.#direct, this.#keys, id),
    ]);
    if (owner > this.#incarnation) {
      // Redis has lost the node's record and kept its inbox: what this incarnation acknowledged there would be refused.
      this.#incarnation = owner;
      await this.#register(host);
      return;
    }
    this.#eligibility = eligibility;
    this.#lastTaken = await lastEntryRead(this.#redis, this.#keys, this.#o.id);
    const specs = this.#parts?.specs;
    if (specs === undefined) throw new Error("settles before it has started");
    const { publishing, orders } = this.#master;
    const { onError } = this.#o;
    host.merge(await asAssigned(await publishing.published(onError), { node: id, host, orders, specs, onError }));
    specs.offer(host.specHashes()).catch(onError);
    await this.#tombstones.obey(host);
    // Those whose spec was lost, and is here again.
    host.resumeHeldUp();
    await this.#master.orders.raiseRevision(host.highestRevision());
    this.#parts?.publisher.open();
    this.#parts?.publisher.publish(host.wholeTruth(), [
      {
        type: this.#state === "starting" ? "node.joined" : "node.back",
        node: this.#o.id,
        data: { incarnation: this.#incarnation, version: this.#o.facts.version },
      },
    ]);
    this.#settled = true;
    await this.#parts?.publisher.flush();
  }

  /**
   * Writes down who has the state folder, and who ends what it leaves behind: its next life waits for that one.
   * @throws where that fails at the start. Later the folder knows this worker already, and a disk that does not answer must
   *   not cost the lease.
   */
  async #recordOwner(): Promise<void> {
    const { pid: watchdogPid } = this.#watchdog;
    const now = { session: this.#session, incarnation: this.#incarnation, pid: process.pid, watchdogPid };
    const recorded = this.#ownership?.record(now);
    if (this.#state === "starting") await recorded;
    else recorded?.catch(this.#o.onError);
  }

  /** What nothing is left of need not be looked for by the next life. */
  #forgetEndedLives(): void {
    const orphans = this.#parts?.orphans;
    if (orphans === undefined) return;
    this.#ownership?.forgetOldest(orphans.sessions);
    for (const launch of orphans.ended) this.#disk?.forgetLaunch(launch);
  }

  /** What could not be ended of former lives may have ended by now. */
  async #retryOrphans(host: StitchHost): Promise<void> {
    if ((await this.#parts?.orphans.retry()) !== true) return;
    this.#forgetEndedLives();
    host.resumeHeldUp();
  }

  async #beat(): Promise<void> {
    const host = this.#parts?.host;
    if (host === undefined) return;
    this.#retryOrphans(host).catch(this.#o.onError);
    const asked = this.#lease.ask();
    const known = this.#parts?.publisher.known ?? 0;
    // In the heartbeat's round trip. They are on other shards, which must not cost the lease.
    this.#parts?.publisher.assertPointers(() => host.idsWithRemoved(), this.#o.heartbeatMs).catch(this.#o.onError);
    const reply = await within(
      this.#o.leaseMs / 2,
      this.#master.publishing.beat({
        session: this.#session,
        incarnation: this.#incarnation,
        leaseMs: this.#o.leaseMs,
        status: host.status(),
        load: this.#load.measure(),
        beats: this.#beats,
        leaseUntilHintMs: this.#clock.nowMs() + this.#o.leaseMs,
      }),
    );
    if (reply.outcome === "other" && this.#isFencedBy(reply)) {
      this.#fail(
        new NodeIdTaken(`another worker has taken the id ${this.#o.id}; this one stops its stitches and ends`),
      );
      return;
    }
    if (reply.outcome !== "ok") {
      this.#o.say(`${WHY_AGAIN[reply.outcome]}; registering again`);
      try {
        await this.#register(host);
      } catch (error) {
        // Another worker has renewed its lease all the while: it lives, whatever its incarnation.
        if (error instanceof NodeIdTaken) this.#fail(error);
        throw error;
      }
      host.leaseIsBack();
      return;
    }
    this.#beats = reply.beats;
    this.#leaseSince(asked);
    this.#eligibility = reply.eligibility ?? this.#eligibility;
    this.#clock.told(reply.nowMs, asked.steadyAtMs);
    this.#parts?.publisher.heard(reply.published, known);
    // What follows has to do with other servers of a Redis Cluster, too: one that hangs must not cost the lease.
    this.#following ??= this.#afterBeat(host, reply.words)
      .catch(this.#o.onError)
      .finally(() => (this.#following = null));
    await orLate(this.#following, this.#o.heartbeatMs / 2);
  }

  /** What is due once the lease has been renewed. One at a time, where a heartbeat finds the former still under way. */
  async #afterBeat(host: StitchHost, words: number): Promise<void> {
    if (this.#beats % LOOK_EVERY === 0) await this.#repair();
    if (this.#settled) {
      // A publication may have met a Redis that was not the right one, and have held back all others.
      this.#parts?.publisher.open();
      await this.#parts?.publisher.flush();
    } else await this.#settle(host);
    await this.#tombstones.beat(host, words);
    host.leaseIsBack();
    this.#parts?.measurements.beat(host).catch(this.#o.onError);
    // What could not be written is tried again; the disk has told of it.
    this.#disk?.written().catch(() => undefined);
    if (performance.now() - this.#lastPruneMs <= PRUNE_MS) return;
    this.#lastPruneMs = performance.now();
    this.#prune(host).catch(this.#o.onError);
  }

  /** What is on a disk that is slow to let go of it must not hold up a heartbeat. */
  async #prune(host: StitchHost): Promise<void> {
    const ids = await host.prune();
    this.#parts?.publisher.forget(ids);
    await this.#master.publishing.forget(ids);
    await this.#parts?.specs.offer(host.specHashes());
    await this.#parts?.specs.prune(() => host.specHashes());
  }

  /** Only a later life of the id that is not this worker's own takes it away; all else is a Redis that is older than it. */
  #isFencedBy({ session, incarnation }: { session: string; incarnation: number }): boolean {
    const isOwn = session === this.#session || this.#ownership?.formerSessions.includes(session) === true;
    return !isOwn && incarnation > this.#incarnation;
  }

  /** Puts right what a Master that was forgetting the node, and was overtaken by its registration, may have done since. */
  async #repair(): Promise<void> {
    await Promise.all([this.#master.publishing.relist(), openNodeQueue(this.#direct, this.#keys, this.#o.id)]);
  }

  /** Leaves: takes nothing more, finishes or hands back, stops every stitch, says so. Bounded; may be called twice and at once. */
  stop(): Promise<void> {
    this.#stopping ??= this.#leave();
    return this.#stopping;
  }

  async #leave(): Promise<void> {
    if (this.#state === "ended" || this.#state === "new") {
      await this.#letGo();
      return;
    }
    this.#become("leaving");
    const host = this.#parts?.host;
    this.#delivery?.hold();
    const tasksDone = this.#queue?.stop(LEAVE_MS) ?? Promise.resolve();
    // A task that waits for a stitch ends when the stitch does, so both at once; what is left after its grace is killed.
    const stitchesDone = (async () => {
      await within(LEAVE_MS, host?.stopAll(LEAVE_MS - KILL_MS) ?? Promise.resolve()).catch(this.#o.onError);
      await within(KILL_MS, host?.stopAll(0) ?? Promise.resolve()).catch(this.#o.onError);
    })();
    await Promise.all([within(LEAVE_MS + KILL_MS, tasksDone).catch(this.#o.onError), stitchesDone]);
    // With the stitches its tasks have ended too; what came of them is told.
    await within(KILL_MS, Promise.all([this.#journal?.idle(), this.#runner?.idle()])).catch(this.#o.onError);
    // After the stitches, so that a reader of a log sees their last lines.
    await Promise.all([this.#inbox?.stop(KILL_MS), this.#logQuestions?.stop(KILL_MS)]).catch(this.#o.onError);
    await within(KILL_MS, this.#parts?.outbox.stop() ?? Promise.resolve()).catch(this.#o.onError);
    await this.#delivery?.stop(KILL_MS);
    // A registration that is under way must not come after the farewell.
    if (this.#redis.status === "ready")
      // Why it could not join is no matter any more.
      await within(KILL_MS, this.#joining ?? Promise.resolve()).catch(() => undefined);
    // It beats until here: leaving may take longer than the lease, and what it finishes meanwhile it tells under the lease.
    this.#become("ended");
    await within(KILL_MS, this.#heartbeats.end()).catch(this.#o.onError);
    await within(KILL_MS, this.#sayGoodbye()).catch(this.#o.onError);
    await this.#letGo();
    this.#ended.resolve();
  }

  async #sayGoodbye(): Promise<void> {
    // What it leaves may be another node's by then.
    await orLate(this.#lastBeat.isGivenBack(), FORGET_MS);
    await this.#parts?.publisher.flush();
    await this.#master.publishing.leave({ session: this.#session, incarnation: this.#incarnation });
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
    this.#parts?.publisher.mute();
    const end = async () => {
      await within(KILL_MS, this.#parts?.host.stopAll(0) ?? Promise.resolve()).catch(this.#o.onError);
      await this.#queue?.stop(0).catch(this.#o.onError);
      await this.#letGo();
      this.#ended.reject(error);
    };
    this.#stopping = end();
    this.#stopping.catch(this.#o.onError);
  }

  async #letGo(): Promise<void> {
    this.#lease.close();
    this.#heartbeats.close();
    this.#load.stop();
    this.#fallSilent();
    this.#watchdog.end();
    // Where the disk does not answer, the folder stays this process's until it ends.
    await within(KILL_MS, this.#lastBeat.close()).catch(this.#o.onError);
    if ((await this.#disk?.close()) !== false) await this.#ownership?.release();
  }

  /** Nothing more is asked of Redis, or told to it. */
  #fallSilent(): void {
    this.#parts?.publisher.mute();
    this.#inbox?.kill();
    void this.#parts?.outbox.stop();
    this.#delivery?.kill();
    this.#logQuestions?.kill();
    for (const connection of [this.#redis, this.#direct, this.#blocking]) connection.disconnect();
  }

  /** The only place where the state changes. What has ended stays so, and does not beat. */
  #become(state: State): void {
    if (this.#state !== "ended") this.#state = state;
    if (this.#state === "ended") void this.#heartbeats.end();
  }
}
