import { LATE, orLate } from "../../../src/bounded-wait.ts";
import type { EventType } from "../../../src/domain/event.ts";
import type { Message } from "../../../src/domain/message.ts";
import { afterExit, stableAfterMs } from "../../../src/domain/stitch/restart.ts";
import type { StitchSpec } from "../../../src/domain/stitch/spec.ts";
import type { Health, StepError, StitchRecord } from "../../../src/domain/stitch/stitch.ts";
import { errorText } from "../../../src/error-text.ts";
import {
  type Adaptor,
  type Delivered,
  type Exit,
  neverStarted,
  type StartContext,
  type StitchInstance,
} from "../protocol/adaptor.ts";
import type { Place, StartThrottle } from "./start-throttle.ts";
import { NoAnswer } from "../files/bounded-files.ts";
import type { Specs } from "./specs.ts";
import type { StitchDisk } from "./stitch-disk.ts";
import { StitchLog } from "../logs/stitch-log.ts";

/** What happened to a stitch, for the cluster to hear. */
export type StitchEvent = { readonly type: EventType; readonly data?: Record<string, unknown> };

export type HostedStitchOptions = {
  readonly node: string;
  readonly session: string;
  readonly adaptors: { readonly [Kind in StitchSpec["adaptor"]]: Adaptor };
  readonly disk: StitchDisk;
  /** What this node may run. */
  readonly specs: Pick<Specs, "find">;
  readonly nowMs: () => number;
  readonly random: () => number;
  /** Sends a message from the stitch with this id (see `StartContext.send`). */
  readonly send: (stitch: string, ...message: Parameters<StartContext["send"]>) => Promise<void>;
  /** Replies for the stitch with this id (see `StartContext.reply`). */
  readonly reply: (stitch: string, ...reply: Parameters<StartContext["reply"]>) => Promise<void>;
  /** Told that the stitch with this id can be handed messages again (see `StartContext.onRoom`). */
  readonly onRoom: (stitch: string) => void;
  /** Does the node's lease hold, as far as it can tell without asking? */
  readonly holdsId: () => boolean;
  /** Why the stitch with this id must not be started now; null where nothing is against it. */
  readonly heldUp: (stitch: string) => string | null;
  /** Told of each change, when the new record stands. */
  readonly onChange: (stitch: HostedStitch, event: StitchEvent | null) => void;
  /** Runs work on this stitch after what is under way, so that a restart by itself never crosses a step. */
  readonly inOrder: (work: () => Promise<unknown>) => Promise<unknown>;
  /** Every start waits for a place here, whatever it is for. */
  readonly starts: StartThrottle;
  /** See `Turns.next`. */
  readonly nextTurn: () => Promise<void>;
  readonly onError: (error: unknown) => void;
};

export const SUPERSEDED: StepError = { code: "superseded", message: "a newer command came before it was up" };
const startTimeout = (timeoutMs: number): StepError => ({
  code: "start_timeout",
  message: `it was not up after ${timeoutMs} ms`,
});

/** Thrown where a step cannot be finished because the worker leaves: it is handed back, for the worker's next life. */
export class WorkerLeaves extends Error {
  override readonly name = "WorkerLeaves";
}

/** So long after its folder has not answered, it is tried again: that is the disk's doing, and no restart of its own. */
const LATE_FOLDER_MS = 10_000;

/** It has a place to start in, and its folder, or the reason why not. */
type Ready = { readonly place: Place; readonly dataDir: PromiseSettledResult<string> };

/**
 * One stitch on its node: its record, and what runs of it.
 *
 *   stopped ──start──▶ starting ──shows that it runs──▶ running
 *                         │ ▲                              │
 *               ends by itself └──the backoff ends── backoff ◀──ends by itself: the policy restarts it
 *                         └────────────▶ (policy) ─────────┤
 *                                                          ├──▶ stopped: it ended well, or must not outlive the lease
 *                                                          └──▶ failed: the policy gives up
 *   any ──stop──▶ stopping ──all of it is gone──▶ stopped
 *
 * `start` and `stop` are called one at a time (`inOrder`); an exit may come at any moment.
 */
export class HostedStitch {
  readonly log: StitchLog;
  readonly #o: HostedStitchOptions;
  #record: StitchRecord;
  #instance: StitchInstance | null = null;
  #restart: NodeJS.Timeout | undefined;
  /** What a start that no step waits for waits for. */
  #resuming: Place | null = null;
  #stable: NodeJS.Timeout | undefined;
  #closing = false;
  #endedWithLease = false;
  #isHeldUp = false;
  /** Its folder has not answered at its last start. */
  #folderIsLate = false;
  #interrupted = Promise.withResolvers<void>();
  /** Resolved, and made anew, when its health has changed or its run has ended. */
  #changed = Promise.withResolvers<void>();
  /** What its heartbeats tell of this run; null where they have told nothing. */
  #told: Health | null = null;
  /** It has been red, and not green since. */
  #red = false;

  constructor(record: StitchRecord, options: HostedStitchOptions) {
    this.#record = record;
    this.#o = options;
    this.log = new StitchLog(options.disk.logPath(record.id), options.onError);
  }

  get record(): StitchRecord {
    return this.#record;
  }

  /** What it runs; null where that was never let in here: then it is not started. */
  get spec(): StitchSpec | null {
    return this.#o.specs.find(this.#record.specHash);
  }

  /** How long a stop waits before it kills. Without a spec nothing runs. */
  get stopGraceMs(): number {
    return this.spec?.stopGraceMs ?? 0;
  }

  get runs(): boolean {
    return this.#instance !== null;
  }

  /** Should it run, and was ended because the node's lease had run out? */
  get endedWithLease(): boolean {
    return this.#endedWithLease && this.#record.desired === "running";
  }

  /** Should it run, and is not started because something of a former start of it cannot be ended, or its spec is not on this node? */
  get isHeldUp(): boolean {
    return this.#isHeldUp && this.#record.desired === "running";
  }

  /** The node's lease has run out. */
  leaseIsOver(): void {
    this.#instance?.leaseIsOver?.();
  }

  /** The process that leads its group; null where there is none. */
  get pid(): number | null {
    return this.#instance?.pid ?? null;
  }

  /** See `StitchInstance.heldMs`. */
  get heldMs(): number {
    return this.#instance?.heldMs ?? 0;
  }

  /** Hands it a message; null where it cannot take one now: it does not run, or does not read. */
  deliver(message: Message): Promise<Delivered> | null {
    if (this.#record.state !== "running") return null;
    return this.#instance?.deliver?.(message) ?? null;
  }

  /** Changes its record, on disk where that outlasts this life of the worker, and tells. */
  update(change: Partial<StitchRecord>, event: StitchEvent | null = null): void {
    const before = this.#record;
    const isGreen = (change.health ?? before.health) === "green";
    const healthySinceMs = isGreen ? (before.healthySinceMs ?? this.#o.nowMs()) : null;
    this.#record = { ...before, healthySinceMs, ...change, observedAtMs: this.#o.nowMs() };
    if (outlasts(before, this.#record)) this.#o.disk.save(this.#record);
    this.#o.onChange(this, event);
    if (before.health === this.#record.health && before.state === this.#record.state) return;
    this.#changed.resolve();
    this.#changed = Promise.withResolvers();
  }

  /** A newer step waits: a start under way stops waiting, be it for a place, a turn, or the stitch to come up. */
  interrupt(): void {
    this.#interrupted.resolve();
  }

  /**
   * Brings it up, and forgets earlier restarts. Resolves when it has shown that it runs, and has been well for a while.
   * @param timeoutMs for coming up.
   * @param minHealthyMs how long it must have been well, from when it is up.
   * @returns whether there was something to do, or why it has not come up; it stays under its restart policy then.
   * @throws WorkerLeaves
   */
  async start(timeoutMs: number, minHealthyMs: number): Promise<{ changed: boolean } | { error: StepError }> {
    if (this.#closing) throw new WorkerLeaves();
    const before = this.#instance;
    // Only a stop that has failed leaves it so: what still runs is not what is to be started.
    if (before !== null && this.#record.state === "stopping")
      return {
        error: { code: "internal", message: "a stop of it has failed, and it still runs; end it on its node first" },
      };
    if (before === null && this.spec === null) return { error: this.#specUnknown() };
    this.#dropRestart();
    this.#interrupted = Promise.withResolvers();
    if (before === null) {
      this.#endedWithLease = false;
      this.#setRestarts(0);
      const ready = await this.#place();
      if (ready === null) {
        if (this.#closing) throw new WorkerLeaves();
        return { error: SUPERSEDED };
      }
      this.#launch(ready);
    }
    const instance = this.#instance;
    if (instance === null) return { error: { code: "spawn_failed", message: "it could not be started" } };
    const up = Promise.race([
      instance.started.then((started) => (started.kind === "failed" ? started.error : null)),
      this.#interrupted.promise.then(() => SUPERSEDED),
    ]);
    const first = await orLate<StepError | null>(up, timeoutMs);
    const notUp = first === LATE ? startTimeout(timeoutMs) : first;
    const error = notUp ?? (await this.#notWellFor(instance, minHealthyMs, timeoutMs));
    // However it ended then: that is the worker's doing.
    if (this.#closing && error !== null) throw new WorkerLeaves();
    return error === null ? { changed: before === null } : { error };
  }

  /**
   * Waits until this run has been well for so long without a break.
   * @param patienceMs how much longer than that it is waited for, where it is not well at once.
   * @returns why it has not been; null where it has, or has run to its end as its policy allows.
   */
  async #notWellFor(instance: StitchInstance, minHealthyMs: number, patienceMs: number): Promise<StepError | null> {
    if (minHealthyMs === 0) return null;
    const untilMs = this.#o.nowMs() + minHealthyMs + patienceMs;
    for (;;) {
      const nowMs = this.#o.nowMs();
      if (this.#instance !== instance) return this.#record.finished ? null : this.#endedTooSoon(instance, minHealthyMs);
      const { healthySinceMs } = this.#record;
      const wellAtMs = healthySinceMs === null ? Number.POSITIVE_INFINITY : healthySinceMs + minHealthyMs;
      if (nowMs >= wellAtMs) return null;
      if (nowMs >= untilMs)
        return { code: "unhealthy", message: `it came up, and was not well for ${minHealthyMs} ms without a break` };
      const isInterrupted = Promise.race([
        this.#changed.promise.then(() => false),
        this.#interrupted.promise.then(() => true),
      ]);
      if ((await orLate(isInterrupted, Math.min(wellAtMs, untilMs) - nowMs)) === true) return SUPERSEDED;
    }
  }

  async #endedTooSoon(instance: StitchInstance, minHealthyMs: number): Promise<StepError> {
    const exit = await instance.exited;
    const { stderrTail } = exit;
    return {
      code: "exited_early",
      message: `${exitText(exit)} before it had been well for ${minHealthyMs} ms`,
      ...(stderrTail === undefined ? {} : { stderrTail }),
    };
  }

  #specUnknown(): StepError {
    const { specHash } = this.#record;
    return {
      code: "spec_unknown",
      message: `no Master has given this node what it is to run (the spec ${specHash}); remove it, and create it anew`,
    };
  }

  /** Waits for a place, and then until it can be launched there; null where that was interrupted. */
  async #place(): Promise<Ready | null> {
    const place = this.#o.starts.ask();
    const interrupted = this.#interrupted.promise;
    void interrupted.then(() => place.giveBack());
    this.#showThatItWaits();
    // Others that are interrupted in the same moment pass their places on, to be given back at once.
    if (!(await place.granted) || !place.isHeld) return null;
    const readied = this.#readyIn(place).then(async (ready) => {
      await this.#o.nextTurn();
      return ready;
    });
    const ready = await Promise.race([readied, interrupted]);
    return place.isHeld && ready !== undefined ? ready : null;
  }

  /** Has its folder. Never rejects: without that, the launch fails. */
  async #readyIn(place: Place): Promise<Ready> {
    const [dataDir] = await Promise.allSettled([this.#o.disk.makeDataDir(this.#record.id)]);
    return { place, dataDir };
  }

  /**
   * Starts it again after a restart of the worker, when the lease is back, or at the end of its backoff; does not wait for
   * it. A step that starts or stops it comes first, and takes that over. Safe to repeat.
   */
  resume(): void {
    if (this.#resuming !== null || this.#closing) return;
    const place = this.#o.starts.ask();
    this.#resuming = place;
    if (this.#record.state !== "backoff") this.#showThatItWaits();
    const begin = async (ready: Ready) => {
      // A step has taken it over.
      if (this.#resuming !== place) return;
      this.#resuming = null;
      if (this.#record.desired === "running" && this.#instance === null) this.#launch(ready);
      else place.giveBack();
    };
    const whenGranted = async (granted: boolean) => {
      if (!granted) return;
      const ready = await this.#readyIn(place);
      await this.#o.inOrder(() => begin(ready));
    };
    place.granted.then(whenGranted).catch(this.#o.onError);
  }

  /** A drain must not take it for stopped. */
  #showThatItWaits(): void {
    this.update({ state: "starting", health: "missing" });
  }

  /** It is not started again by itself: a step decides, or it is over. */
  #dropRestart(): void {
    clearTimeout(this.#restart);
    this.#resuming?.giveBack();
    this.#resuming = null;
  }

  #launch({ place, dataDir }: Ready): void {
    try {
      this.#begin(dataDir);
    } finally {
      place.holdUntil(this.#instance?.started ?? Promise.resolve());
    }
  }

  #begin(dataDir: Ready["dataDir"]): void {
    const { id, group } = this.#record;
    const { spec } = this;
    this.#endedWithLease = false;
    this.#isHeldUp = false;
    this.#folderIsLate = isLate(dataDir);
    this.log.keepOpen();
    const begin = (): StitchInstance => {
      if (spec === null) {
        const { message } = this.#specUnknown();
        return neverStarted(message, { heldUp: message });
      }
      return this.#adapt(spec)({
        node: this.#o.node,
        id,
        group,
        spec,
        dataDir: valueOf(dataDir),
        session: this.#o.session,
        log: (source, line, continued) => this.log.write(source, line, this.#o.nowMs(), continued),
        send: (...message) => this.#o.send(id, ...message),
        reply: (...reply) => this.#o.reply(id, ...reply),
        onRoom: () => this.#o.onRoom(id),
        onHealth: (health) => this.#onHealth(instance, health),
      });
    };
    const instance = orNeverStarted(begin);
    this.#instance = instance;
    const startedAtMs = this.#o.nowMs();
    this.update({ state: "starting", health: "missing", pid: instance.pid, finished: false, startedAtMs });
    this.#watch(instance).catch(this.#o.onError);
  }

  #adapt(spec: StitchSpec): Adaptor {
    const heldUp = this.#o.heldUp(this.#record.id);
    if (heldUp !== null) return () => neverStarted(heldUp, { heldUp });
    if (spec.onDisconnect === "stop" && !this.#o.holdsId())
      return () => neverStarted("the node has no contact with Redis, and this stitch must not run without");
    return this.#o.adaptors[spec.adaptor];
  }

  async #watch(instance: StitchInstance): Promise<void> {
    instance.exited.then((exit) => this.#onExit(instance, exit)).catch(this.#o.onError);
    const started = await instance.started;
    if (started.kind === "failed") {
      this.#note(`${started.error.code}: ${started.error.message}`);
      return;
    }
    if (started.kind !== "running" || this.#instance !== instance || this.#record.state !== "starting") return;
    // What answers no heartbeat has shown by now that it was well from its start.
    const healthySinceMs = this.#record.takesMessages ? this.#o.nowMs() : this.#record.startedAtMs;
    this.update({ state: "running", health: "green", healthySinceMs }, { type: "stitch.started" });
    // One that has just answered for the first time may be behind with its answers all the same.
    if (this.#told !== null) this.#onHealth(instance, this.#told);
    const policy = this.spec?.restart;
    if (this.#record.restarts === 0 || policy === undefined) return;
    this.#stable = setTimeout(() => this.#setRestarts(0), stableAfterMs(policy)).unref();
  }

  #setRestarts(restarts: number): void {
    if (this.#record.restarts !== restarts) this.update({ restarts });
  }

  #onHealth(instance: StitchInstance, health: Health): void {
    if (this.#instance !== instance) return;
    this.#told = health;
    // Until it has shown that it runs, and once it is to stop, its state tells more than its health.
    if (this.#record.state !== "running" || this.#record.health === health) return;
    // On the way back from red it may be yellow first: green alone is the turn.
    const turned = health === "red" ? !this.#red : health === "green" && this.#red;
    if (turned) this.#red = health === "red";
    this.update({ health }, turned ? { type: "stitch.health", data: { health } } : null);
  }

  #onExit(instance: StitchInstance, exit: Exit): void {
    if (this.#instance !== instance) return;
    this.#instance = null;
    this.#told = null;
    this.#red = false;
    clearTimeout(this.#stable);
    // Of a thousand that do not run, none has a file open.
    this.log.close();
    const { record } = this;
    const { code, signal } = exit;
    const ended: Partial<StitchRecord> = {
      health: "missing",
      pid: null,
      ...(code === null && signal === null ? {} : { lastExit: { code, signal, atMs: this.#o.nowMs() } }),
    };
    if (record.desired === "stopped" || record.state === "stopping" || this.#closing) {
      this.update({ ...ended, state: "stopped" }, { type: "stitch.stopped" });
      return;
    }
    // No end of a run: its policy has nothing to count.
    if (exit.heldUp !== undefined) {
      this.#isHeldUp = true;
      if (this.#folderIsLate) this.#restart = setTimeout(() => this.resume(), LATE_FOLDER_MS);
      this.update({ ...ended, state: "backoff" }, { type: "stitch.failed", data: { reason: exit.heldUp } });
      return;
    }
    // The lease may be back before its end is known.
    if (exit.withLease === true || (this.spec?.onDisconnect === "stop" && !this.#o.holdsId())) {
      this.#note("stopped: its node has lost Redis for as long as its lease; it starts again when the node is back");
      this.#endedWithLease = true;
      this.update({ ...ended, state: "stopped" }, { type: "stitch.stopped", data: { reason: "disconnected" } });
      return;
    }
    this.#obeyPolicy(ended, exit);
  }

  #obeyPolicy(ended: Partial<StitchRecord>, exit: Exit): void {
    const { restarts, startedAtMs } = this.#record;
    const { spec } = this;
    if (spec === null) throw new Error(`${this.#record.id} has run, and its spec is not kept any more`);
    const neverRan = exit.neverRan === true;
    const ranMs = neverRan || startedAtMs === null ? null : this.#o.nowMs() - startedAtMs;
    const next = afterExit(spec.restart, exit.code === 0, ranMs, restarts, this.#o.random());
    const how = neverRan ? "it could not be started" : exitText(exit);
    const lastExit = ended.lastExit == null ? null : { code: exit.code, signal: exit.signal };
    switch (next.kind) {
      case "stopped":
        this.update({ ...ended, state: "stopped", finished: true }, { type: "stitch.stopped", data: { lastExit } });
        return;
      case "failed":
        this.#note(`failed: ${how}; ${next.reason}`);
        this.update({ ...ended, state: "failed" }, { type: "stitch.failed", data: { reason: next.reason, lastExit } });
        return;
      case "again":
        // First: whatever fails while it is told, it is started again.
        this.#restart = setTimeout(() => this.resume(), next.inMs);
        this.#note(
          `${how}; starting it again in ${next.inMs} ms (restart ${next.restarts} of ${spec.restart.maxRestarts})`,
        );
        this.update(
          { ...ended, state: "backoff", restarts: next.restarts },
          { type: "stitch.failed", data: { reason: how, lastExit, restartInMs: next.inMs } },
        );
    }
  }

  /**
   * Stops what runs; resolves when its whole process tree is gone. @returns whether there was something to stop.
   * @throws where it cannot be ended; it is stopped as soon as it has.
   */
  async stop(graceMs: number): Promise<boolean> {
    this.#dropRestart();
    const instance = this.#instance;
    if (instance === null) {
      if (this.#record.state === "stopped") return false;
      this.update({ state: "stopped" }, { type: "stitch.stopped" });
      return true;
    }
    if (this.#record.state !== "stopping") this.update({ state: "stopping" });
    try {
      this.#onExit(instance, await instance.stop(graceMs));
    } catch (error) {
      this.#note(`it could not be stopped: ${errorText(error)}`);
      throw error;
    }
    return true;
  }

  /** Ends it with its worker: what it should do stays on record. Safe to repeat, with less grace. */
  async close(graceMs: number): Promise<void> {
    this.#closing = true;
    this.#dropRestart();
    clearTimeout(this.#stable);
    this.interrupt();
    // A start that will not come is nothing to be shown as waited for.
    if (this.#instance !== null || this.#record.state === "backoff" || this.#record.state === "starting")
      // What cannot be ended has been told of, and holds up none of the others.
      await this.stop(Math.min(graceMs, this.stopGraceMs)).catch(this.#o.onError);
    this.log.close();
  }

  #note(text: string): void {
    void this.log.write("system", text, this.#o.nowMs());
  }
}

/**
 * What a worker that starts again does not go by: of a stitch's state, all it must know is whether it has failed. How it
 * last ended goes to disk with what followed from that.
 */
const PASSING: ReadonlySet<string> = new Set<keyof StitchRecord>([
  "state",
  "health",
  "healthySinceMs",
  "pid",
  "startedAtMs",
  "lastExit",
  "observedAtMs",
]);

/** Is there a change that the worker's next life must know of? */
function outlasts(before: StitchRecord, after: StitchRecord): boolean {
  if ((before.state === "failed") !== (after.state === "failed")) return true;
  return (Object.keys(after) as (keyof StitchRecord)[]).some((key) => !PASSING.has(key) && before[key] !== after[key]);
}

const isLate = (settled: PromiseSettledResult<unknown>): boolean =>
  settled.status === "rejected" && settled.reason instanceof NoAnswer;

function valueOf<T>(settled: PromiseSettledResult<T>): T {
  if (settled.status === "rejected") throw settled.reason;
  return settled.value;
}

/** An adaptor throws nothing; where something does all the same, the start has failed like any other. */
function orNeverStarted(begin: () => StitchInstance): StitchInstance {
  try {
    return begin();
  } catch (error) {
    const text = errorText(error);
    return neverStarted(text, error instanceof NoAnswer ? { heldUp: text } : {});
  }
}

const exitText = ({ code, signal }: Exit): string =>
  signal !== null ? `it was ended by ${signal}` : code === null ? "it ended" : `it exited with code ${code}`;
