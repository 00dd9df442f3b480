import type { Message } from "../../../src/domain/message.ts";
import { stableAfterMs } from "../../../src/domain/stitch/restart.ts";
import { hasCheck, type StitchSpec } from "../../../src/domain/stitch/spec.ts";
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
  /** Called after each change of the record. */
  readonly onChange: (stitch: HostedStitch, event: StitchEvent | null) => void;
  /** Runs work on this stitch after its current work, so that an automatic restart never overlaps a step. */
  readonly inOrder: (work: () => Promise<unknown>) => Promise<unknown>;
  /** Every start of the stitch waits for a place here, whatever caused the start. */
  readonly starts: StartThrottle;
  /** See `EventLoopThrottle.next`. */
  readonly nextTurn: () => Promise<void>;
  readonly onError: (error: unknown) => void;
};

/** Thrown when the worker leaves before a step is finished. The next run of the worker carries the step out again. */
export class WorkerLeaves extends Error {
  override readonly name = "WorkerLeaves";
}

/**
 * Delay before a start is tried again after the data folder did not
 * answer. The disk is the cause, so this is not counted as a restart.
 */
const LATE_FOLDER_MS = 10_000;

/**
 * One stitch on its node: its record, and its running program or module.
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
  /** The place that an automatic start waits for. No step waits for that start. */
  #resuming: Place | null = null;
  /** Resets the restart count after the stitch has run long enough. */
  #stable: NodeJS.Timeout | undefined;
  #isClosing = false;
  #endedWithLease = false;
  #isHeldUp = false;
  /** The data folder did not answer at the last start. */
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

  /** The spec that the stitch runs. null if the spec is not on this node; the stitch is not started then. */
  get spec(): StitchSpec | null {
    return this.#options.specs.find(this.record.specHash);
  }

  /** How long a stop waits before it kills. 0 without a spec, because nothing runs then. */
  get stopGraceMs(): number {
    return this.spec?.stopGraceMs ?? 0;
  }

  get runs(): boolean {
    return this.#instance !== null;
  }

  /** Should the stitch run, but was it ended because the node's lease ran out? */
  get endedWithLease(): boolean {
    return this.#endedWithLease && this.record.desired === "running";
  }

  /**
   * Should the stitch run, but is its start held up, for example by a process of an earlier start that cannot be ended, or
   * because its spec is not on this node?
   */
  get isHeldUp(): boolean {
    return this.#isHeldUp && this.record.desired === "running";
  }

  /** Tells the running instance that the node's lease has run out. */
  leaseIsOver(): void {
    this.#instance?.leaseIsOver?.();
  }

  /** The pid of the process group leader; null if there is none. */
  get pid(): number | null {
    return this.#instance?.pid ?? null;
  }

  /** See `StitchInstance.heldMs`. */
  get heldMs(): number {
    return this.#instance?.heldMs ?? 0;
  }

  /** Delivers a message to the stitch. null if the stitch cannot take one now: it does not run, or does not read. */
  deliver(message: Message): Promise<Delivered> | null {
    if (this.record.state !== "running") return null;
    return this.#instance?.deliver?.(message) ?? null;
  }

  /** Changes the record and publishes the change. */
  update(change: Partial<StitchRecord>, event: StitchEvent | null = null): void {
    this.#kept.update(change, event);
  }

  /** A newer step waits: a start in progress stops waiting, whether for a place, a turn, or the stitch to come up. */
  interrupt(): void {
    this.#interrupted.resolve();
  }

  /**
   * Starts the stitch and forgets earlier restarts. Resolves when the stitch is up and has been well for `minHealthyMs`.
   * @param timeoutMs how long the stitch may take to come up.
   * @param minHealthyMs how long the stitch must be well, counted from when it is up.
   * @returns whether the call changed anything, or why the stitch did not come up; its restart policy then still applies.
   * @throws WorkerLeaves
   */
  async start(timeoutMs: number, minHealthyMs: number): Promise<{ changed: boolean } | { error: StepError }> {
    if (this.#isClosing) throw new WorkerLeaves();
    const before = this.#instance;
    // Only a failed stop leaves this state. The old instance still runs, and it is not the one to start.
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
    // The worker's own stop ended the stitch, so this error is not the outcome of the step.
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
   * Starts the stitch again after a restart of the worker, when the lease is back, or at the end of its backoff. Does not
   * wait for the start. A step that starts or stops the stitch comes first and replaces this start. Safe to repeat.
   */
  resume(): void {
    if (this.#resuming !== null || this.#isClosing) return;
    const place = this.#options.starts.ask();
    this.#resuming = place;
    if (this.record.state !== "backoff") this.#showThatItWaits();
    const begin = async (ready: Ready) => {
      // A step has replaced this start.
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

  /** Shows the stitch as `starting`, so that a drain does not treat it as stopped. */
  #showThatItWaits(): void {
    this.update({ state: "starting", health: "missing" });
  }

  /** Cancels an automatic restart: a step decides instead, or the worker closes the stitch. */
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
    const onHealth = (health: Health, failure?: string) => this.#onHealth(instance, health, failure);
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
    // A stitch without heartbeats and without a check has shown by now that it was well since its start.
    const isSilent = !this.record.takesMessages && (this.spec === null || !hasCheck(this.spec));
    const healthySinceMs = isSilent ? this.record.startedAtMs : this.#options.nowMs();
    this.update({ state: "running", health: "green", healthySinceMs }, { type: "stitch.started" });
    // A stitch that has just answered for the first time may still be late with its answers.
    if (this.#health.last !== null) this.#onHealth(instance, this.#health.last, this.#health.failure);
    const policy = this.spec?.restart;
    if (this.record.restarts === 0 || policy === undefined) return;
    this.#stable = setTimeout(() => this.#setRestarts(0), stableAfterMs(policy)).unref();
  }

  #setRestarts(restarts: number): void {
    if (this.record.restarts !== restarts) this.update({ restarts });
  }

  #onHealth(instance: StitchInstance, health: Health, failure?: string): void {
    if (this.#instance !== instance) return;
    this.#health.last = health;
    this.#health.failure = failure;
    // Before the stitch runs, and while it stops, its state says more than its health.
    if (this.record.state !== "running") return;
    if (failure !== undefined && this.#restartsWhenRed) this.#endRed(instance);
    if (this.record.health === health) return;
    const data = failure === undefined ? { health } : { health, reason: failure };
    this.update({ health }, this.#health.turnsTo(health) ? { type: "stitch.health", data } : null);
  }

  get #restartsWhenRed(): boolean {
    const { spec } = this;
    return spec?.adaptor === "process" && spec.check?.restartWhenRed === true;
  }

  /** Ends a run whose check is red, as if it had ended by itself: then its restart policy decides. Steps come first. */
  #endRed(instance: StitchInstance): void {
    const end = async () => {
      const { failure } = this.#health;
      // A step has stopped it, it has ended, or it is well again.
      if (this.#instance !== instance || this.record.state !== "running" || failure === undefined) return;
      this.#health.endedWith = failure;
      try {
        this.#onExit(instance, await instance.stop(this.stopGraceMs));
      } catch (error) {
        this.#note(`its check is red, and it could not be stopped: ${errorText(error)}`);
      }
    };
    this.#options.inOrder(end).catch(this.#options.onError);
  }

  #onExit(instance: StitchInstance, exit: Exit): void {
    if (this.#instance !== instance) return;
    this.#instance = null;
    clearTimeout(this.#stable);
    // A thousand stitches that do not run must not keep a thousand files open.
    this.log.close();
    const { record, spec } = this;
    const { endedWith } = this.#health;
    const { holdsId, nowMs, random } = this.#options;
    const after = decideAfterExit({
      record,
      spec,
      exit: endedWith === undefined ? exit : { ...exit, red: endedWith },
      isWanted: record.desired === "stopped" || record.state === "stopping" || this.#isClosing,
      holdsId: holdsId(),
      nowMs: nowMs(),
      random: random(),
    });
    this.#endedWithLease = after.waitsFor === "lease";
    this.#isHeldUp = after.waitsFor === "what holds it up";
    const restartInMs = this.#isHeldUp && this.#isFolderLate ? LATE_FOLDER_MS : after.restartInMs;
    // First, so that the stitch is started again even if recording its exit fails.
    if (restartInMs !== undefined) this.#restart = setTimeout(() => this.resume(), restartInMs);
    if (after.note !== undefined) this.#note(after.note);
    this.update(after.change, after.event);
  }

  /**
   * Stops the running instance. Resolves when its whole process tree is gone.
   * @returns whether there was anything to stop.
   * @throws if the instance cannot be ended. The stitch becomes `stopped` as soon as the instance ends.
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

  /** Stops the stitch with its worker. Its desired state stays recorded. Safe to repeat, with a shorter grace. */
  async close(graceMs: number): Promise<void> {
    this.#isClosing = true;
    this.#dropRestart();
    clearTimeout(this.#stable);
    this.interrupt();
    // Without this, the record would still show a start that never comes.
    if (this.#instance !== null || this.record.state === "backoff" || this.record.state === "starting")
      // A failed stop is already in the log of the stitch, and must not hold up the other stitches.
      await this.stop(Math.min(graceMs, this.stopGraceMs)).catch(this.#options.onError);
    this.log.close();
  }

  #note(text: string): void {
    void this.log.write("system", text, this.#options.nowMs());
  }
}
