import {
  formatRevision,
  compareRevisions,
  NO_REVISION,
  parseRevision,
  type Revision,
} from "../../../src/domain/names/revision.ts";
import type { ClusterEvent } from "../../../src/domain/event.ts";
import { fullId, splitFullId } from "../../../src/domain/names/ids.ts";
import type { StitchStep } from "../../../src/domain/job/job.ts";
import { groupContains } from "../../../src/domain/names/group.ts";
import { wellForMs } from "../../../src/domain/job/min-healthy.ts";
import { type Eligibility, type NodeFacts, type NodeStatus, shortOf } from "../../../src/domain/node/node.ts";
import { NO_RESOURCES, type Resources } from "../../../src/domain/stitch/spec.ts";
import {
  REMOVED_KEPT_MS,
  type RemovedRecord,
  type StepError,
  type StepOutcome,
  type StitchRecord,
  toldOf,
} from "../../../src/domain/stitch/stitch.ts";
import { buries, type Tombstone } from "../../../src/domain/job/tombstone.ts";
import type { StitchChange } from "../../../src/redis/stitch/stitch-records.ts";
import { answered } from "../files/bounded-files.ts";
import { HostedStitch, type HostedStitchOptions, type StitchEvent, SUPERSEDED, WorkerLeaves } from "./hosted-stitch.ts";
import { StartThrottle } from "./start-throttle.ts";
import { StitchLog } from "../logs/stitch-log.ts";
import { EventLoopThrottle } from "./event-loop-throttle.ts";

type StitchHostOptions = Omit<HostedStitchOptions, "onChange" | "inOrder" | "starts" | "nextTurn"> & {
  readonly facts: NodeFacts;
  /** May new stitches come here, as far as this node has heard? */
  readonly eligibility: () => Eligibility;
  /** The last entry of the inbox that was taken, in this life of the worker or an earlier one. */
  readonly lastMail: () => string;
  /** Told of each change of a stitch, its removal included. */
  readonly onStitch: (stitch: HostedStitch) => void;
  readonly publish: (changes: readonly StitchChange[], events: readonly ClusterEvent[]) => void;
};

const newer = (a: Revision, b: Revision): Revision => (compareRevisions(a, b) < 0 ? b : a);

/** Is it to run, and does not? What has run to its end, or has failed, is up to its policy. */
const shouldStart = ({ runs, record: { desired, finished, state } }: HostedStitch): boolean =>
  desired === "running" && !finished && state !== "failed" && !runs;

const DESIRED_BY = { start: "running", restart: "running", stop: "stopped", remove: "stopped" } as const;

/**
 * The stitches of one node: the one place that changes them. Steps of one stitch run in order, those of different stitches
 * at the same time; each is applied once per revision, and an equal one is answered with the recorded outcome.
 */
export class StitchHost {
  readonly #o: StitchHostOptions;
  readonly #hosted = new Map<string, HostedStitch>();
  readonly #removed = new Map<string, RemovedRecord>();
  /** Logs of stitches that were removed in this life of the worker: somebody may be reading them. */
  readonly #oldLogs = new Map<string, StitchLog>();
  readonly #queues = new Map<string, Promise<unknown>>();
  /** Of the steps that wait or are under way for a stitch, the newest revision. */
  readonly #newest = new Map<string, Revision>();
  #leaving = false;
  readonly #turns = new EventLoopThrottle(() => performance.now());
  readonly #starts = new StartThrottle();

  constructor(options: StitchHostOptions) {
    this.#o = options;
  }

  #host(record: StitchRecord): HostedStitch {
    const stitch = new HostedStitch(record, {
      ...this.#o,
      onChange: (changed, event) => {
        // What a removed stitch still does is nobody's concern.
        if (this.#hosted.get(record.id) !== changed) return;
        this.#publish(changed, event);
        this.#o.onStitch(changed);
      },
      inOrder: (work) => this.#inOrder(record.id, work),
      starts: this.#starts,
      nextTurn: () => this.#turns.next(),
    });
    this.#hosted.set(record.id, stitch);
    return stitch;
  }

  #publish(stitch: HostedStitch, event: StitchEvent | null, isNew = false): void {
    const { record } = stitch;
    this.#o.publish([{ kind: "set", record, isNew }], event === null ? [] : [this.#event(event, record)]);
  }

  #event({ type, data }: StitchEvent, record: Pick<StitchRecord, "id" | "group">): ClusterEvent {
    return {
      type,
      node: this.#o.node,
      stitch: fullId(this.#o.node, record.id),
      group: record.group,
      data: data ?? null,
    };
  }

  /**
   * Takes in what disk and Redis hold: of each stitch the higher revision wins; where they are equal a removal, else the
   * disk's.
   */
  merge(from: { stitches: readonly StitchRecord[]; removed: readonly RemovedRecord[] }): void {
    for (const record of from.stitches) {
      if (!this.wouldTake(record)) continue;
      this.#removed.delete(record.id);
      const spec = this.#o.specs.find(record.specHash);
      const idle: StitchRecord = {
        ...record,
        ...(spec === null ? {} : toldOf(spec)),
        state: record.state === "failed" ? "failed" : "stopped",
        health: "missing",
        healthySinceMs: null,
        pid: null,
      };
      this.#host(idle);
      this.#o.disk.save(idle);
    }
    for (const record of from.removed) {
      const hosted = this.#hosted.get(record.id);
      const age = compareRevisions(parseRevision(record.revision), this.#lastRevision(record.id));
      // A removal comes after all else that its step has done.
      if (age < 0 || (age === 0 && hosted === undefined)) continue;
      if (this.#isAtWork(record.id)) continue;
      if (hosted !== undefined) this.#oldLogs.set(record.id, hosted.log);
      this.#hosted.delete(record.id);
      this.#removed.set(record.id, record);
      this.#o.disk.saveRemoved(record);
      if (hosted !== undefined) this.#o.onStitch(hosted);
    }
  }

  /** Has this very step been carried out here, or a newer one of its stitch? Then `apply` makes nothing of it. */
  hasApplied({ stitch }: StitchStep, revision: Revision): boolean {
    return compareRevisions(revision, this.#lastRevision(splitFullId(stitch).stitch)) <= 0;
  }

  /** Would `merge` take this record of a stitch? */
  wouldTake({ id, revision }: Pick<StitchRecord, "id" | "revision">): boolean {
    return compareRevisions(parseRevision(revision), this.#lastRevision(id)) > 0 && !this.#isAtWork(id);
  }

  /** The stitches here of which it is not known what they run. */
  unknown(): StitchRecord[] {
    return [...this.#hosted.values()].flatMap(({ record, spec }) => (spec === null ? [record] : []));
  }

  /** What its stitches run, by hash. */
  specHashes(): Set<string> {
    return new Set([...this.#hosted.values()].map(({ record }) => record.specHash));
  }

  #lastRevision(id: string): Revision {
    const text = this.#hosted.get(id)?.record.revision ?? this.#removed.get(id)?.revision;
    return text === undefined ? NO_REVISION : parseRevision(text);
  }

  /** The highest revision this node has taken up. */
  highestRevision(): number {
    const all = [...this.#hosted.values()].map(({ record }) => record).concat();
    const revisions = [...all, ...this.#removed.values()].map(({ revision }) => parseRevision(revision).revision);
    return Math.max(0, ...revisions);
  }

  /** Everything, for a Redis that does not know it. */
  wholeTruth(): StitchChange[] {
    return [
      ...[...this.#hosted.values()].map(({ record }): StitchChange => ({ kind: "set", record, isNew: true })),
      ...[...this.#removed.values()].map((record): StitchChange => ({ kind: "removed", record, isNew: false })),
    ];
  }

  /** What a stitch is by now, or what is left of it; null where nothing is. Its pointers count as not written. */
  changeOf(id: string): StitchChange | null {
    const record = this.#hosted.get(id)?.record;
    if (record !== undefined) return { kind: "set", record, isNew: true };
    const removed = this.#removed.get(id);
    return removed === undefined ? null : { kind: "removed", record: removed, isNew: false };
  }

  /** Starts again what should run, after a restart of the worker. Does not wait for it. */
  resume(): void {
    this.#resume(shouldStart);
  }

  /** The same with Redis away, of those that go on without it. */
  resumeAlone(): void {
    this.#resume((stitch) => shouldStart(stitch) && stitch.spec?.onDisconnect === "keep");
  }

  /** The lease has run out: ends what must not outlive it and the watchdog cannot end. */
  leaseIsOver(): void {
    for (const stitch of this.#hosted.values()) stitch.leaseIsOver();
  }

  /**
   * The lease holds: starts again what was ended because it had run out. Does not wait for it; all else is up to its policy.
   * To be called more than once: the end of a stitch may become known after the lease is back.
   */
  leaseIsBack(): void {
    this.#resume((stitch) => stitch.endedWithLease);
  }

  /** Something that held a stitch up is gone: starts what was held up, as far as it may. Does not wait for it. */
  resumeHeldUp(): void {
    this.#resume((stitch) => stitch.isHeldUp);
  }

  #resume(which: (stitch: HostedStitch) => boolean): void {
    for (const stitch of this.#hosted.values()) if (which(stitch)) stitch.resume();
  }

  status(): NodeStatus {
    const states: Partial<Record<StitchRecord["state"], number>> = {};
    for (const { record } of this.#hosted.values()) states[record.state] = (states[record.state] ?? 0) + 1;
    const eligibility = this.#o.eligibility();
    return { reserved: this.#reserved(null), stitchCount: this.#hosted.size, states, eligibility };
  }

  #reserved(but: string | null): Resources {
    let { cpu, memoryBytes } = NO_RESOURCES;
    for (const [id, { spec }] of this.#hosted) {
      if (id === but || spec === null) continue;
      cpu += spec.resources.cpu;
      memoryBytes += spec.resources.memoryBytes;
    }
    return { cpu, memoryBytes };
  }

  /**
   * Applies a step: what the stitch is to do is on disk before anything is done. Never rejects for what the stitch does: that
   * is an outcome.
   * @throws WorkerLeaves; the disk's error, where it takes nothing: then nothing is done.
   */
  apply(step: StitchStep, revision: Revision): Promise<StepOutcome> {
    const id = splitFullId(step.stitch).stitch;
    // Whatever is newer than what is under way need not wait for it to come up. A create takes nothing over, nor does what
    // means another stitch.
    const isMeant = step.born === undefined || step.born === this.#hosted.get(id)?.record.born;
    if (step.action !== "create" && isMeant && compareRevisions(revision, this.#newestOf(id)) > 0) {
      this.#newest.set(id, revision);
      this.#hosted.get(id)?.interrupt();
    }
    return this.#inOrder(id, async () => {
      const outcome = await this.#apply(id, step, revision);
      // What it was to do is on disk by now, and it is done. A disk that does not take that too is no reason to call it undone.
      await this.#o.disk.written().catch(() => undefined);
      return outcome;
    });
  }

  #newestOf(id: string): Revision {
    return this.#newest.get(id) ?? this.#lastRevision(id);
  }

  #inOrder<T>(id: string, work: () => Promise<T>): Promise<T> {
    const before = this.#queues.get(id) ?? Promise.resolve();
    const run = before
      // Whoever asked for that has been told; this begins whatever became of it.
      .catch(() => undefined)
      .then(async () => {
        await this.#turns.next();
        return work();
      });
    this.#queues.set(id, run);
    const forget = () => {
      if (this.#queues.get(id) !== run) return;
      this.#queues.delete(id);
      this.#newest.delete(id);
    };
    run.then(forget, forget);
    return run;
  }

  async #apply(id: string, step: StitchStep, revision: Revision): Promise<StepOutcome> {
    const startedAtMs = this.#o.nowMs();
    const done = (changed: boolean): StepOutcome => ({
      status: "succeeded",
      changed,
      startedAtMs,
      finishedAtMs: this.#o.nowMs(),
      output: null,
      error: null,
    });
    const failed = (error: StepError, changed = false): StepOutcome => ({
      ...done(changed),
      status: error.code === "superseded" ? "superseded" : "failed",
      error,
    });
    if (this.#isAnothers(id, step))
      return failed({ code: "superseded", message: `another stitch has the id ${id} on ${this.#o.node} by now` });
    // A newer command to the one that has arrived takes nothing of that it has.
    if (step.action === "settle") this.#settle(id);
    const takesBack = step.action === "remove" && step.arrivingFrom !== undefined;
    // What arrives is the move's own: a command that has met it on its way does not make a second stitch of it.
    const age = takesBack ? 1 : compareRevisions(revision, this.#lastRevision(id));
    if (age < 0 && step.action === "settle") return done(false);
    if (age < 0) return failed({ code: "superseded", message: "a newer command has been applied to this stitch" });
    const recorded = this.#hosted.get(id)?.record.outcome ?? this.#removed.get(id)?.outcome ?? null;
    if (age === 0 && recorded !== null) return recorded;

    /** @param changed what was done before: a newer command takes over what it should do, and not that. */
    const bringUp = async (stitch: HostedStitch, changed: boolean): Promise<StepOutcome> => {
      if (compareRevisions(this.#newestOf(id), revision) > 0) return failed(SUPERSEDED, changed);
      const launches = !stitch.runs;
      const askedMs = "minHealthyMs" in step ? step.minHealthyMs : undefined;
      const wellMs = askedMs ?? (stitch.spec === null ? 0 : wellForMs(stitch.spec));
      const result = await stitch.start(step.timeoutMs, wellMs);
      if (!("error" in result)) return done(changed || result.changed);
      return failed(result.error, changed || (launches && result.error.code !== "superseded"));
    };
    const finish = (stitch: HostedStitch, outcome: StepOutcome): StepOutcome => {
      stitch.update({ outcome });
      return outcome;
    };
    if (step.action === "create" && !this.#hosted.has(id) && !this.#returns(id, step)) await this.#putAside(id);
    if (this.#leaving) throw new WorkerLeaves();
    if (step.action === "create") {
      const made = this.#make(id, step, revision);
      if ("error" in made) return failed(made.error);
      const { stitch } = made;
      if ("before" in made) await this.#recordedNew(stitch, made.before);
      else await this.#recorded(stitch, { desired: "stopped" });
      return finish(stitch, step.start ? await bringUp(stitch, true) : done(true));
    }
    const stitch = this.#hosted.get(id);
    // Never another's that has this id by now.
    if (takesBack && stitch?.record.movedFrom !== step.arrivingFrom) return done(false);
    if (stitch === undefined) {
      const movedTo = this.isTakenBack(id) ? null : this.movedTo(id);
      // One that has moved away lives on: to say that it is removed would be wrong.
      const isGone = this.#removed.has(id) && movedTo === null;
      if (step.action === "remove" && step.movedTo === undefined && isGone) return done(false);
      return failed(
        movedTo === null
          ? { code: "internal", message: `${this.#o.node} has no stitch ${id}` }
          : { code: "superseded", message: `it has moved to ${movedTo}; send the command again` },
      );
    }
    const before = stitch.record;
    const lastRevision = parseRevision(before.revision);
    const desired = step.action === "settle" ? before.desired : DESIRED_BY[step.action];
    stitch.update({ desired, revision: formatRevision(newer(revision, lastRevision)), outcome: null });
    await this.#recorded(stitch, { desired: before.desired, revision: before.revision, outcome: before.outcome });
    const { stopGraceMs } = stitch;
    switch (step.action) {
      case "start":
        return finish(stitch, await bringUp(stitch, false));
      case "restart":
        await stitch.stop(stopGraceMs);
        return finish(stitch, await bringUp(stitch, true));
      case "stop":
        return finish(stitch, done(await stitch.stop(stopGraceMs)));
      case "remove":
        await stitch.stop(stopGraceMs);
        return this.#remove(stitch, before.desired, {
          revision: formatRevision(newer(revision, lastRevision)),
          outcome: done(true),
          movedTo: step.movedTo ?? null,
          arrivingFrom: step.arrivingFrom ?? null,
        });
      case "settle":
        return finish(stitch, done(true));
    }
  }

  /** Resolves when the stitch's record is on disk. @throws where the disk does not take it: then the record is as `before`. */
  async #recorded(stitch: HostedStitch, before: Partial<StitchRecord>): Promise<void> {
    try {
      await this.#o.disk.written();
    } catch (error) {
      stitch.update(before);
      throw error;
    }
  }

  /**
   * Resolves when the record of a new stitch is on disk, and tells of it. @throws where the disk does not take it: then nothing
   * is left of it, and the command can be given again.
   * @param before what a removed one has left under its id.
   */
  async #recordedNew(stitch: HostedStitch, before: RemovedRecord | null): Promise<void> {
    const { id } = stitch.record;
    try {
      await this.#o.disk.written();
    } catch (error) {
      if (this.#hosted.get(id) === stitch) this.#hosted.delete(id);
      if (before !== null) this.#removed.set(id, before);
      this.#o.disk.takeBack(id, before);
      throw error;
    }
    this.#publish(stitch, { type: "stitch.created" }, true);
  }

  /** The one it came from is gone: from here on this is the stitch. */
  #settle(id: string): void {
    const stitch = this.#hosted.get(id);
    if (stitch === undefined || stitch.record.movedFrom === null) return;
    const from = stitch.record.movedFrom;
    stitch.update({ movedFrom: null });
    this.#publish(stitch, { type: "stitch.moved", data: { from } }, true);
  }

  /** Does the step mean another stitch than the one that has the id here, or, where it brings one back, that had it last? */
  #isAnothers(id: string, step: StitchStep): boolean {
    const restores = step.action === "create" && step.restores === true;
    const born = (this.#hosted.get(id)?.record ?? (restores ? this.#removed.get(id) : undefined))?.born;
    return step.born !== undefined && born !== undefined && step.born !== born;
  }

  /** Is it the one that was here before: a removal is taken back, or it has moved and comes home? Then it finds what it left. */
  #returns(id: string, { restores, movedFrom, born }: Extract<StitchStep, { action: "create" }>): boolean {
    if (born === undefined || this.#removed.get(id)?.born !== born) return false;
    return restores === true || (movedFrom !== undefined && this.movedTo(id) !== null && !this.isTakenBack(id));
  }

  /** A new stitch begins with an empty data folder and a log of its own; what a removed one left is kept until its time is over. */
  async #putAside(id: string): Promise<void> {
    const { disk, nowMs, onError } = this.#o;
    if (!(await disk.hasLeftovers(id))) return;
    const log = this.#oldLogs.get(id) ?? new StitchLog(disk.logPath(id), onError);
    const moved = disk.putAside(id, this.#removed.get(id)?.removedAtMs ?? nowMs()).then((path) => log.moveTo(path));
    await answered(disk.logPath(id), moved);
    this.#oldLogs.delete(id);
  }

  /**
   * Makes the record of a new stitch, or takes up again one that was made by this very step.
   * @returns of a new one also what a removed one has left under its id.
   */
  #make(
    id: string,
    step: Extract<StitchStep, { action: "create" }>,
    revision: Revision,
  ): { stitch: HostedStitch; before: RemovedRecord | null } | { stitch: HostedStitch } | { error: StepError } {
    const { specHash } = step;
    const { node } = this.#o;
    const spec = this.#o.specs.find(specHash);
    if (spec === null)
      return { error: { code: "spec_unknown", message: `${node} has not been given the spec ${specHash}` } };
    const short = shortOf(this.#o.facts.capacity, this.#reserved(id), spec.resources);
    if (short !== null)
      return { error: { code: "capacity_exceeded", message: `${node} has not enough ${short} left for this stitch` } };
    const before = this.#hosted.get(id);
    const eligibility = this.#o.eligibility();
    // It was planned before a newer command took this node out. What is taken back was here all along.
    if (eligibility !== "eligible" && before === undefined && step.restores !== true)
      return { error: { code: "superseded", message: `${node} takes no new stitches: it is ${eligibility}` } };
    // Two creates of one id at once, planned before either was there: the first has it. Taking it over would end another's stitch.
    if (before !== undefined && before.record.revision !== formatRevision(revision))
      return { error: { code: "internal", message: `${node} has a stitch ${id} already` } };
    if (before !== undefined) return { stitch: before };
    const record: StitchRecord = {
      id,
      group: step.group,
      specHash,
      ...toldOf(spec),
      placement: step.placement ?? { strategy: "spread" },
      movedFrom: step.movedFrom ?? null,
      desired: step.start ? "running" : "stopped",
      state: "stopped",
      health: "missing",
      healthySinceMs: null,
      revision: formatRevision(revision),
      born: step.born ?? formatRevision(revision),
      outcome: null,
      finished: false,
      restarts: 0,
      pid: null,
      startedAtMs: null,
      lastExit: null,
      observedAtMs: this.#o.nowMs(),
      mailAfter: this.#o.lastMail(),
    };
    const removed = this.#removed.get(id) ?? null;
    this.#removed.delete(id);
    this.#o.disk.save(record);
    return { stitch: this.#host(record), before: removed };
  }

  /** @param desired what it should have done, had it not been removed. */
  #remove<Outcome extends StepOutcome | null>(
    stitch: HostedStitch,
    desired: StitchRecord["desired"],
    {
      outcome,
      movedTo,
      arrivingFrom,
      revision,
    }: Pick<Tombstone, "revision" | "movedTo" | "arrivingFrom"> & { outcome: Outcome },
  ): Outcome {
    const { id, group, born, takesMessages } = stitch.record;
    const was = { takesMessages, desired };
    const gone = { id, group, revision, born, outcome, removedAtMs: this.#o.nowMs(), was };
    const record: RemovedRecord =
      arrivingFrom === null ? { ...gone, movedTo } : { ...gone, movedTo: arrivingFrom, takenBack: true };
    this.#hosted.delete(id);
    this.#removed.set(id, record);
    this.#oldLogs.set(id, stitch.log);
    // It may wait for its next start.
    stitch.close(0).catch(this.#o.onError);
    this.#o.disk.saveRemoved(record);
    this.#o.publish([{ kind: "removed", record, isNew: true }], [this.#event({ type: "stitch.removed" }, record)]);
    this.#o.onStitch(stitch);
    return outcome;
  }

  /**
   * Takes in what Masters have decided while this node was away. What does not run is gone at once, before anything is
   * started; what does is stopped first.
   */
  obey(tombstones: ReadonlyMap<string, Tombstone>): void {
    for (const [id, tombstone] of tombstones) {
      if (!this.#isBuried(id, tombstone)) continue;
      if (this.#isAtWork(id)) {
        this.#hosted.get(id)?.interrupt();
        this.#inOrder(id, () => this.#obeyRunning(id, tombstone)).catch(this.#o.onError);
      } else this.#bury(id, tombstone);
    }
  }

  /** Does it run, or is something under way for it, which may start it? */
  #isAtWork(id: string): boolean {
    return this.#hosted.get(id)?.runs === true || this.#queues.has(id);
  }

  async #obeyRunning(id: string, tombstone: Tombstone): Promise<void> {
    if (!this.#isBuried(id, tombstone)) return;
    const stitch = this.#hosted.get(id);
    stitch?.update({ desired: "stopped" });
    await stitch?.stop(stitch.stopGraceMs);
    this.#bury(id, tombstone);
  }

  #isBuried(id: string, tombstone: Tombstone): boolean {
    const stitch = this.#hosted.get(id);
    return stitch !== undefined && buries(tombstone, stitch.record);
  }

  #bury(id: string, tombstone: Tombstone): void {
    const stitch = this.#hosted.get(id);
    if (stitch !== undefined) this.#remove(stitch, stitch.record.desired, { ...tombstone, outcome: null });
  }

  /** The stitches that have come here and are not settled, with the full ids they come from. */
  arriving(): { readonly id: string; readonly movedFrom: string; readonly born: string }[] {
    return [...this.#hosted.values()].flatMap(({ record: { id, movedFrom, born } }) =>
      movedFrom === null ? [] : [{ id, movedFrom, born }],
    );
  }

  /** The one that a stitch came from has gone here: nobody is left to say so. Where the stitch is another by now, nothing is done. */
  settle(id: string, born: string): void {
    if (this.#hosted.get(id)?.record.born === born) this.#settle(id);
  }

  /** The processes of its stitches, by stitch id: each the leader of its group. */
  processes(): Map<string, number> {
    return new Map([...this.#hosted].flatMap(([id, { pid }]) => (pid === null ? [] : [[id, pid]])));
  }

  /** Of the programs that run, those whose logs take a file as soon as there is a line to write. */
  logsToCome(): number {
    return [...this.#hosted.values()].filter(({ pid, log }) => pid !== null && !log.isOpen).length;
  }

  /** Of the stitches here, and of what is left of removed ones. */
  idsWithRemoved(): string[] {
    return [...this.#hosted.keys(), ...this.#removed.keys()];
  }

  ids(): string[] {
    return [...this.#hosted.keys()];
  }

  find(id: string): HostedStitch | null {
    return this.#hosted.get(id) ?? null;
  }

  /** The members of a group here that take messages. */
  receivers(group: string): HostedStitch[] {
    return [...this.#hosted.values()].filter(
      ({ record }) => record.takesMessages && groupContains(group, record.group),
    );
  }

  /** The members of a group that took messages here, and have moved away. */
  movedAway(group: string): RemovedRecord[] {
    return [...this.#removed.values()].filter(
      ({ id, group: its, movedTo, was }) =>
        movedTo !== null && !this.isTakenBack(id) && was?.takesMessages === true && groupContains(group, its),
    );
  }

  /** The full id under which a stitch that was here lives on; null where it is gone for good, or never was here. */
  movedTo(id: string): string | null {
    return this.#removed.get(id)?.movedTo ?? null;
  }

  /** Had it only arrived here, and has gone back? Then what was for its groups came to it there, too. */
  isTakenBack(id: string): boolean {
    return this.#removed.get(id)?.takenBack === true;
  }

  /** The log of a stitch; null where there is no such stitch here. */
  log(id: string): StitchLog | null {
    return this.#hosted.get(id)?.log ?? null;
  }

  /**
   * Forgets tombstones, data and logs of what was removed long enough ago, one after the other; ends at the first that the disk
   * does not let go of. @returns the ids of those that are forgotten.
   */
  async prune(): Promise<string[]> {
    const before = this.#o.nowMs() - REMOVED_KEPT_MS;
    const { disk, onError } = this.#o;
    disk.forgetAside(before).catch(onError);
    const forgotten: string[] = [];
    const forget = async (record: RemovedRecord): Promise<void> => {
      const { id, removedAtMs } = record;
      // Another of this id has been made since, and has put aside what was here.
      if (this.#hosted.has(id) || this.#removed.get(id) !== record) return;
      await disk.forget(id, removedAtMs);
      this.#removed.delete(id);
      this.#oldLogs.delete(id);
      forgotten.push(id);
    };
    try {
      for (const record of this.#removed.values())
        if (record.removedAtMs < before) await this.#inOrder(record.id, () => forget(record));
    } catch (error) {
      onError(error);
    }
    return forgotten;
  }

  /**
   * Stops everything; what each should do stays on record, so that the next start brings it back. `graceMs` bounds every
   * stitch's own grace. Nothing is started any more. Safe to repeat; with less grace it hurries.
   */
  async stopAll(graceMs: number): Promise<void> {
    this.#leaving = true;
    this.#starts.close();
    await Promise.all([...this.#hosted.values()].map((stitch) => stitch.close(graceMs)));
  }
}
