import type { Message } from "../../../src/domain/message.ts";
import { stableAfterMs } from "../../../src/domain/stitch/restart.ts";
import type { StitchSpec } from "../../../src/domain/stitch/spec.ts";
import type { Health, StepError, StitchRecord } from "../../../src/domain/stitch/stitch.ts";
import { errorText } from "../../../src/error-text.ts";
import { NoAnswer } from "../files/bounded-files.ts";
import { StitchLog } from "../logs/stitch-log.ts";
import { type Delivered, type Exit, neverStarted, type StitchInstance } from "../protocol/adaptor.ts";
import { decideAfterExit } from "./after-exit.ts";
import { KeptRecord, type StitchEvent } from "./kept-record.ts";
import { launch, type LaunchOptions } from "./launch.ts";
import { RunHealth } from "./run-health.ts";
import type { Specs } from "./specs.ts";
import { type Ready, readyIn, waitToStart } from "./ready-to-start.ts";
import type { Place, StartThrottle } from "./start-throttle.ts";
import type { StitchDisk } from "./stitch-disk.ts";
import { SUPERSEDED, waitUntilWell } from "./wait-until-well.ts";

export type HostedStitchOptions = LaunchOptions & {
  readonly disk: StitchDisk;
  /** What this node may run. */
  readonly specs: Pick<Specs, "find">;
  readonly random: () => number;
  /** Told of each change, when the new record stands. */
  readonly onChange: (stitch: HostedStitch, event: StitchEvent | null) => void;
  /** Runs work on this stitch after what is under way, so that a restart by itself never crosses a step. */
  readonly inOrder: (work: () => Promise<unknown>) => Promise<unknown>;
  /** Every start waits for a place here, whatever it is for. */
  readonly starts: StartThrottle;
  /** See `EventLoopThrottle.next`. */
  readonly nextTurn: () => Promise<void>;
  readonly onError: (error: unknown) => void;
};

/** Thrown where a step cannot be finished because the worker leaves: it is handed back, for the worker's next life. */
export class WorkerLeaves extends Error {
  override readonly name = "WorkerLeaves";
}

/** So long after its data folder has not answered, the start is tried again. It is no restart: the disk is the cause. */
const LATE_FOLDER_MS = 10_000;

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
  readonly #options: HostedStitchOptions;
  readonly #kept: KeptRecord;
  #instance: StitchInstance | null = null;
  #health = new RunHealth();
  #restart: NodeJS.Timeout | undefined;
  /** The place that a start by itself waits for: no step waits for that start. */
  #resuming: Place | null = null;
  /** Ends the count of its restarts, once it has run for long enough. */
  #stable: NodeJS.Timeout | undefined;
  #isClosing = false;
  #endedWithLease = false;
  #isHeldUp = false;
  /** Its data folder has not answered at its last start. */
  #isFolderLate = false;
  #interrupted = Promise.withResolvers<void>();

  constructor(record: StitchRecord, options: HostedStitchOptions) {
    this.#options = options;
    this.#kept = new KeptRecord(record, { ...options, onChange: (event) => options.onChange(this, event) });
    this.log = new StitchLog(options.disk.logPath(record.id), options.onError);
  }

  get record(): StitchRecord {
    return this.#kept.current;
  }

  /** What it runs; null where that spec is not on this node: then it is not started. */
  get spec(): StitchSpec | null {
    return this.#options.specs.find(this.record.specHash);
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
    return this.#endedWithLease && this.record.desired === "running";
  }

  /** Should it run, and is not started because something of a former start of it cannot be ended, or its spec is not on this node? */
  get isHeldUp(): boolean {
    return this.#isHeldUp && this.record.desired === "running";
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
    if (this.record.state !== "running") return null;
    return this.#instance?.deliver?.(message) ?? null;
  }

  /** Changes its record, and publishes the change. */
  update(change: Partial<StitchRecord>, event: StitchEvent | null = null): void {
    this.#kept.update(change, event);
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
    if (this.#isClosing) throw new WorkerLeaves();
    const before = this.#instance;
    // Only a stop that has failed leaves it so: what still runs is not what is to be started.
    if (before !== null && this.record.state === "stopping")
      return {
        error: { code: "internal", message: "a stop of it has failed, and it still runs; end it on its node first" },
      };
    if (before === null && this.spec === null) return { error: this.#specUnknown() };
    this.#dropRestart();
    this.#interrupted = Promise.withResolvers();
    if (before === null) {
      this.#endedWithLease = false;
      this.#setRestarts(0);
      this.#showThatItWaits();
      const { id } = this.record;
      const ready = await waitToStart({ ...this.#options, id, interrupted: this.#interrupted.promise });
      if (ready === null) {
        if (this.#isClosing) throw new WorkerLeaves();
        return { error: SUPERSEDED };
      }
      this.#launch(ready);
    }
    const instance = this.#instance;
    if (instance === null) return { error: { code: "spawn_failed", message: "it could not be started" } };
    const error = await waitUntilWell({
      record: this.#kept,
      instance,
      isCurrent: () => this.#instance === instance,
      timeoutMs,
      minHealthyMs,
      interrupted: this.#interrupted.promise,
      nowMs: this.#options.nowMs,
    });
    // However it ended then: that is the worker's doing.
    if (this.#isClosing && error !== null) throw new WorkerLeaves();
    return error === null ? { changed: before === null } : { error };
  }

  #specUnknown(): StepError {
    const { specHash } = this.record;
    return {
      code: "spec_unknown",
      message: `no Master has given this node what it is to run (the spec ${specHash}); remove it, and create it anew`,
    };
  }

  /**
   * Starts it again after a restart of the worker, when the lease is back, or at the end of its backoff; does not wait for
   * it. A step that starts or stops it comes first, and takes that over. Safe to repeat.
   */
  resume(): void {
    if (this.#resuming !== null || this.#isClosing) return;
    const place = this.#options.starts.ask();
    this.#resuming = place;
    if (this.record.state !== "backoff") this.#showThatItWaits();
    const begin = async (ready: Ready) => {
      // A step has taken it over.
      if (this.#resuming !== place) return;
      this.#resuming = null;
      if (this.record.desired === "running" && this.#instance === null) this.#launch(ready);
      else place.giveBack();
    };
    const whenGranted = async (granted: boolean) => {
      if (!granted) return;
      const ready = await readyIn(place, this.#options.disk, this.record.id);
      await this.#options.inOrder(() => begin(ready));
    };
    place.granted.then(whenGranted).catch(this.#options.onError);
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
    const { spec } = this;
    const { id, group } = this.record;
    this.#endedWithLease = false;
    this.#isHeldUp = false;
    this.#isFolderLate = dataDir.status === "rejected" && dataDir.reason instanceof NoAnswer;
    this.log.keepOpen();
    const onHealth = (health: Health) => this.#onHealth(instance, health);
    const instance =
      spec === null
        ? neverStarted(this.#specUnknown().message, { heldUp: this.#specUnknown().message })
        : launch(this.#options, { id, group, spec, dataDir, log: this.log, onHealth });
    this.#instance = instance;
    this.#health = new RunHealth();
    const startedAtMs = this.#options.nowMs();
    this.update({ state: "starting", health: "missing", pid: instance.pid, finished: false, startedAtMs });
    this.#watch(instance).catch(this.#options.onError);
  }

  async #watch(instance: StitchInstance): Promise<void> {
    instance.exited.then((exit) => this.#onExit(instance, exit)).catch(this.#options.onError);
    const started = await instance.started;
    if (started.kind === "failed") {
      this.#note(`${started.error.code}: ${started.error.message}`);
      return;
    }
    if (started.kind !== "running" || this.#instance !== instance || this.record.state !== "starting") return;
    // What answers no heartbeat has shown by now that it was well from its start.
    const healthySinceMs = this.record.takesMessages ? this.#options.nowMs() : this.record.startedAtMs;
    this.update({ state: "running", health: "green", healthySinceMs }, { type: "stitch.started" });
    // One that has just answered for the first time may be behind with its answers all the same.
    if (this.#health.last !== null) this.#onHealth(instance, this.#health.last);
    const policy = this.spec?.restart;
    if (this.record.restarts === 0 || policy === undefined) return;
    this.#stable = setTimeout(() => this.#setRestarts(0), stableAfterMs(policy)).unref();
  }

  #setRestarts(restarts: number): void {
    if (this.record.restarts !== restarts) this.update({ restarts });
  }

  #onHealth(instance: StitchInstance, health: Health): void {
    if (this.#instance !== instance) return;
    this.#health.last = health;
    // Until it has shown that it runs, and once it is to stop, its state tells more than its health.
    if (this.record.state !== "running" || this.record.health === health) return;
    this.update({ health }, this.#health.turnsTo(health) ? { type: "stitch.health", data: { health } } : null);
  }

  #onExit(instance: StitchInstance, exit: Exit): void {
    if (this.#instance !== instance) return;
    this.#instance = null;
    clearTimeout(this.#stable);
    // A thousand stitches that do not run must not keep a thousand files open.
    this.log.close();
    const { record, spec } = this;
    const { holdsId, nowMs, random } = this.#options;
    const after = decideAfterExit({
      record,
      spec,
      exit,
      isWanted: record.desired === "stopped" || record.state === "stopping" || this.#isClosing,
      holdsId: holdsId(),
      nowMs: nowMs(),
      random: random(),
    });
    this.#endedWithLease = after.waitsFor === "lease";
    this.#isHeldUp = after.waitsFor === "what holds it up";
    const restartInMs = this.#isHeldUp && this.#isFolderLate ? LATE_FOLDER_MS : after.restartInMs;
    // First: whatever fails while the end is recorded, it is started again.
    if (restartInMs !== undefined) this.#restart = setTimeout(() => this.resume(), restartInMs);
    if (after.note !== undefined) this.#note(after.note);
    this.update(after.change, after.event);
  }

  /**
   * Stops what runs; resolves when its whole process tree is gone. @returns whether there was something to stop.
   * @throws where it cannot be ended; it is stopped as soon as it has.
   */
  async stop(graceMs: number): Promise<boolean> {
    this.#dropRestart();
    const instance = this.#instance;
    if (instance === null) {
      if (this.record.state === "stopped") return false;
      this.update({ state: "stopped" }, { type: "stitch.stopped" });
      return true;
    }
    if (this.record.state !== "stopping") this.update({ state: "stopping" });
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
    this.#isClosing = true;
    this.#dropRestart();
    clearTimeout(this.#stable);
    this.interrupt();
    // A start that will not come is nothing to be shown as waited for.
    if (this.#instance !== null || this.record.state === "backoff" || this.record.state === "starting")
      // What cannot be ended has been told of, and holds up none of the others.
      await this.stop(Math.min(graceMs, this.stopGraceMs)).catch(this.#options.onError);
    this.log.close();
  }

  #note(text: string): void {
    void this.log.write("system", text, this.#options.nowMs());
  }
}
