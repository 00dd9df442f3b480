import type { ClusterEvent } from "../../../src/domain/event.ts";
import type { StitchStep } from "../../../src/domain/job/job.ts";
import { buries, type Tombstone } from "../../../src/domain/job/tombstone.ts";
import { fullId, splitFullId } from "../../../src/domain/names/ids.ts";
import { compareRevisions, parseRevision, type Revision } from "../../../src/domain/names/revision.ts";
import {
  REMOVED_KEPT_MS,
  type RemovedRecord,
  type StepOutcome,
  type StitchRecord,
  toldOf,
} from "../../../src/domain/stitch/stitch.ts";
import type { StitchChange } from "../../../src/redis/stitch/stitch-records.ts";
import { applyStep, confirmArrival } from "./apply-step.ts";
import { HostedStitch, type HostedStitchOptions } from "./hosted-stitch.ts";
import type { StitchEvent } from "./kept-record.ts";
import { StartThrottle } from "./start-throttle.ts";
import type { Removal, StepContext } from "./step-context.ts";
import { StepQueue } from "./step-queue.ts";
import type { StitchRegistry } from "./stitch-registry.ts";

type StitchHostOptions = Omit<HostedStitchOptions, "onChange" | "inOrder" | "starts" | "nextTurn"> &
  Pick<StepContext, "registry" | "facts" | "eligibility" | "lastMail"> & {
    /** Called after each change of a stitch, including its removal. */
    readonly onStitch: (stitch: HostedStitch) => void;
    readonly publish: (changes: readonly StitchChange[], events: readonly ClusterEvent[]) => void;
  };

/** Should the stitch run, but does not? A stitch that has finished or failed is left to its restart policy. */
const shouldStart = ({ runs, record: { desired, finished, state } }: HostedStitch): boolean =>
  desired === "running" && !finished && state !== "failed" && !runs;

/**
 * Hosts the stitches of one node, and is the only place that changes them. Steps of one stitch run in order; steps of
 * different stitches run at the same time.
 */
export class StitchHost {
  readonly #options: StitchHostOptions;
  readonly #registry: StitchRegistry;
  readonly #queue = new StepQueue(() => performance.now());
  readonly #starts = new StartThrottle();
  readonly #context: StepContext;
  #isLeaving = false;

  constructor(options: StitchHostOptions) {
    this.#options = options;
    this.#registry = options.registry;
    this.#context = {
      ...options,
      isLeaving: () => this.#isLeaving,
      newestRevision: (id) => this.#queue.newest(id) ?? this.#registry.lastRevision(id),
      add: (record) => this.#add(record),
      remove: (stitch, removal) => this.#remove(stitch, removal),
      publish: (stitch, event, isNew) => this.#publish(stitch, event, isNew),
    };
  }

  #add(record: StitchRecord): HostedStitch {
    const stitch = new HostedStitch(record, {
      ...this.#options,
      onChange: (changed, event) => {
        // A removed stitch may still change until its processes have ended. Those changes are not published.
        if (this.#registry.find(record.id) !== changed) return;
        this.#publish(changed, event, false);
        this.#options.onStitch(changed);
      },
      inOrder: (work) => this.#queue.run(record.id, work),
      starts: this.#starts,
      nextTurn: () => this.#queue.nextTurn(),
    });
    this.#registry.add(stitch);
    return stitch;
  }

  #remove(stitch: HostedStitch, { desired, outcome, movedTo, arrivingFrom, revision }: Removal): void {
    const { disk, publish, onStitch, onError, nowMs } = this.#options;
    const { id, group, born, takesMessages } = stitch.record;
    const was = { takesMessages, desired };
    const gone = { id, group, revision, born, outcome, removedAtMs: nowMs(), was };
    const record: RemovedRecord =
      arrivingFrom === null ? { ...gone, movedTo } : { ...gone, movedTo: arrivingFrom, takenBack: true };
    this.#registry.remove(record);
    // The stitch may wait for its next start.
    stitch.close(0).catch(onError);
    disk.saveRemoved(record);
    publish([{ kind: "removed", record, isNew: true }], [this.#event({ type: "stitch.removed" }, record)]);
    onStitch(stitch);
  }

  #publish(stitch: HostedStitch, event: StitchEvent | null, isNew: boolean): void {
    const { record } = stitch;
    this.#options.publish([{ kind: "set", record, isNew }], event === null ? [] : [this.#event(event, record)]);
  }

  #event({ type, data }: StitchEvent, record: Pick<StitchRecord, "id" | "group">): ClusterEvent {
    const { node } = this.#options;
    return { type, node, stitch: fullId(node, record.id), group: record.group, data: data ?? null };
  }

  /**
   * Merges records from disk or Redis with the records in memory. The higher revision of each stitch wins. With equal
   * revisions, a removal wins, otherwise the record in memory. Starts nothing.
   */
  merge(from: { stitches: readonly StitchRecord[]; removed: readonly RemovedRecord[] }): void {
    for (const record of from.stitches) if (this.wouldTake(record)) this.#mergeStitch(record);
    for (const record of from.removed) this.#mergeRemoved(record);
  }

  #mergeStitch(record: StitchRecord): void {
    const { specs, disk } = this.#options;
    const spec = specs.find(record.specHash);
    const idle: StitchRecord = {
      ...record,
      ...(spec === null ? {} : toldOf(spec)),
      state: record.state === "failed" ? "failed" : "stopped",
      health: "missing",
      healthySinceMs: null,
      pid: null,
    };
    this.#add(idle);
    disk.save(idle);
  }

  #mergeRemoved(record: RemovedRecord): void {
    const hosted = this.#registry.find(record.id);
    const age = compareRevisions(parseRevision(record.revision), this.#registry.lastRevision(record.id));
    // With equal revisions the removal wins, because it is the last act of its step.
    if (age < 0 || (age === 0 && hosted === null)) return;
    if (this.#isAtWork(record.id)) return;
    this.#registry.remove(record);
    this.#options.disk.saveRemoved(record);
    if (hosted !== null) this.#options.onStitch(hosted);
  }

  /** Would `merge` take this record of a stitch? */
  wouldTake({ id, revision }: Pick<StitchRecord, "id" | "revision">): boolean {
    return compareRevisions(parseRevision(revision), this.#registry.lastRevision(id)) > 0 && !this.#isAtWork(id);
  }

  /** Does the stitch run, or does work wait that may start it? */
  #isAtWork(id: string): boolean {
    return this.#registry.find(id)?.runs === true || this.#queue.isBusy(id);
  }

  /** Was this step, or a newer step of its stitch, carried out here? Then `apply` does nothing. */
  hasApplied({ stitch }: StitchStep, revision: Revision): boolean {
    return compareRevisions(revision, this.#registry.lastRevision(splitFullId(stitch).stitch)) <= 0;
  }

  /**
   * Applies a step; see `applyStep`. If the stitch fails, that is the outcome; the promise does not reject.
   * @throws WorkerLeaves; the disk's error if the disk takes nothing: then nothing is done.
   */
  apply(step: StitchStep, revision: Revision): Promise<StepOutcome> {
    const id = splitFullId(step.stitch).stitch;
    const stitch = this.#registry.find(id);
    // A newer step does not wait for an older step to bring the stitch
    // up. A create, or a step for another stitch, interrupts nothing.
    const isMeant = step.born === undefined || step.born === stitch?.record.born;
    if (step.action !== "create" && isMeant && this.#queue.announce(id, revision, this.#registry.lastRevision(id)))
      stitch?.interrupt();
    return this.#queue.run(id, async () => {
      const outcome = await applyStep(this.#context, id, step, revision);
      // The step is done, and its desired state is on disk. If the disk does not take the outcome, the step is still done.
      await this.#options.disk.written().catch(() => undefined);
      return outcome;
    });
  }

  /** Confirms a move whose job is gone: the source stitch has moved here. Does nothing for another stitch with this id. */
  confirmArrival(id: string, born: string): void {
    if (this.#registry.find(id)?.record.born === born) confirmArrival(this.#context, id);
  }

  /**
   * Removes the stitches that Masters removed while this node was away. Stitches that do not run are removed at once,
   * before anything is started. Running stitches are stopped first.
   */
  obey(tombstones: ReadonlyMap<string, Tombstone>): void {
    for (const [id, tombstone] of tombstones) {
      const stitch = this.#buriedBy(id, tombstone);
      if (stitch === null) continue;
      if (this.#isAtWork(id)) {
        stitch.interrupt();
        this.#queue.run(id, () => this.#stopAndBury(id, tombstone)).catch(this.#options.onError);
      } else this.#bury(stitch, tombstone);
    }
  }

  async #stopAndBury(id: string, tombstone: Tombstone): Promise<void> {
    const stitch = this.#buriedBy(id, tombstone);
    if (stitch === null) return;
    stitch.update({ desired: "stopped" });
    await stitch.stop(stitch.stopGraceMs);
    this.#bury(stitch, tombstone);
  }

  #buriedBy(id: string, tombstone: Tombstone): HostedStitch | null {
    const stitch = this.#registry.find(id);
    return stitch !== null && buries(tombstone, stitch.record) ? stitch : null;
  }

  #bury(stitch: HostedStitch, tombstone: Tombstone): void {
    this.#remove(stitch, { ...tombstone, desired: stitch.record.desired, outcome: null });
  }

  /** Starts the stitches that should run, after a restart of the worker. Does not wait for the starts. */
  resume(): void {
    this.#resume(shouldStart);
  }

  /** Like `resume`, but while Redis is away: starts only the stitches that may run without Redis. */
  resumeAlone(): void {
    this.#resume((stitch) => shouldStart(stitch) && stitch.spec?.onDisconnect === "keep");
  }

  /** Starts the stitches that were held up, if nothing holds them up any more. Does not wait for the starts. */
  resumeHeldUp(): void {
    this.#resume((stitch) => stitch.isHeldUp);
  }

  /**
   * The lease holds again: starts the stitches that were ended because it had run out. Does not wait for the starts. Call
   * this repeatedly: the end of a stitch may become known after the lease is back.
   */
  leaseIsBack(): void {
    this.#resume((stitch) => stitch.endedWithLease);
  }

  /** The lease has run out: ends the stitches that must not outlive it and that the watchdog cannot end. */
  leaseIsOver(): void {
    for (const stitch of this.#registry.all()) stitch.leaseIsOver();
  }

  #resume(which: (stitch: HostedStitch) => boolean): void {
    for (const stitch of this.#registry.all()) if (which(stitch)) stitch.resume();
  }

  /**
   * Deletes the removed records, data and logs of stitches that were removed long enough ago, one after the other. Stops at
   * the first one that cannot be deleted. @returns the ids of the deleted ones.
   */
  async prune(): Promise<string[]> {
    const { disk, onError, nowMs } = this.#options;
    const beforeMs = nowMs() - REMOVED_KEPT_MS;
    disk.forgetAside(beforeMs).catch(onError);
    const forgotten: string[] = [];
    const forget = async (record: RemovedRecord): Promise<void> => {
      const { id, removedAtMs } = record;
      // A new stitch with this id has put aside the data and log of the removed one.
      if (this.#registry.find(id) !== null || this.#registry.findRemoved(id) !== record) return;
      await disk.forget(id, removedAtMs);
      this.#registry.forgetRemoved(id);
      forgotten.push(id);
    };
    try {
      for (const record of this.#registry.allRemoved())
        if (record.removedAtMs < beforeMs) await this.#queue.run(record.id, () => forget(record));
    } catch (error) {
      onError(error);
    }
    return forgotten;
  }

  /**
   * Stops all stitches. Their desired states stay recorded, so that the next start of the worker starts them again.
   * `graceMs` bounds each stitch's own grace. Starts nothing more. Safe to repeat; a shorter grace stops sooner.
   */
  async stopAll(graceMs: number): Promise<void> {
    this.#isLeaving = true;
    this.#starts.close();
    await Promise.all(this.#registry.all().map((stitch) => stitch.close(graceMs)));
  }
}
