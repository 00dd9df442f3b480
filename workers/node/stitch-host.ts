import {
  formatRevision,
  compareRevisions,
  NO_REVISION,
  parseRevision,
  type Revision,
} from "../../src/domain/revision.ts";
import type { ClusterEvent, EventType } from "../../src/domain/event.ts";
import { fullId, splitFullId } from "../../src/domain/ids.ts";
import type { StitchStep } from "../../src/domain/job.ts";
import { type NodeFacts, type NodeStatus, shortOf } from "../../src/domain/node.ts";
import { NO_RESOURCES, type Resources } from "../../src/domain/spec.ts";
import {
  REMOVED_KEPT_MS,
  type RemovedRecord,
  type StepError,
  type StepOutcome,
  type StitchRecord,
} from "../../src/domain/stitch.ts";
import type { StitchChange } from "../../src/redis/stitch-records.ts";
import type { Adaptor, StitchInstance } from "./adaptors/adaptor.ts";
import type { StitchDisk } from "./stitch-disk.ts";
import { StitchLog } from "./stitch-log.ts";

export type StitchHostOptions = {
  readonly node: string;
  readonly session: string;
  readonly facts: NodeFacts;
  readonly disk: StitchDisk;
  readonly adaptors: { readonly process: Adaptor };
  readonly nowMs: () => number;
  readonly publish: (changes: readonly StitchChange[], events: readonly ClusterEvent[]) => void;
  readonly onError: (error: unknown) => void;
};

/** A stitch and what runs of it. `queue`: the end of what was asked of it so far, one thing after the other. */
type Hosted = { record: StitchRecord; instance: StitchInstance | null; log: StitchLog };

/**
 * The stitches of one node: the one place that changes them. Steps of one stitch run in order, those of different stitches
 * at the same time; each is applied once per revision, and an equal one is answered with the recorded outcome.
 */
export class StitchHost {
  readonly #o: StitchHostOptions;
  readonly #hosted = new Map<string, Hosted>();
  readonly #removed = new Map<string, RemovedRecord>();
  readonly #queues = new Map<string, Promise<unknown>>();
  #closing = false;

  constructor(options: StitchHostOptions) {
    this.#o = options;
  }

  /** Takes in what disk and Redis hold: of each stitch the higher revision wins, the disk's where they are equal. */
  merge(from: { stitches: readonly StitchRecord[]; removed: readonly RemovedRecord[] }): void {
    for (const record of from.stitches) {
      if (compareRevisions(parseRevision(record.revision), this.#lastRevision(record.id)) <= 0) continue;
      if (this.#hosted.get(record.id)?.instance != null) continue;
      this.#removed.delete(record.id);
      const idle: StitchRecord = {
        ...record,
        state: record.state === "failed" ? "failed" : "stopped",
        health: "missing",
        pid: null,
      };
      this.#hosted.set(record.id, { record: idle, instance: null, log: this.#logOf(record.id) });
      this.#o.disk.save(idle);
    }
    for (const record of from.removed) {
      if (compareRevisions(parseRevision(record.revision), this.#lastRevision(record.id)) <= 0) continue;
      const hosted = this.#hosted.get(record.id);
      if (hosted?.instance != null) continue;
      this.#hosted.delete(record.id);
      this.#removed.set(record.id, record);
      this.#o.disk.saveRemoved(record);
    }
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
      ...[...this.#removed.values()].map((record): StitchChange => ({ kind: "removed", record })),
    ];
  }

  /** Starts again what should run, after a restart of the worker. Does not wait for it. */
  resume(): void {
    for (const [id, { record }] of this.#hosted) {
      if (record.desired !== "running") continue;
      this.#inOrder(id, async () => {
        const hosted = this.#hosted.get(id);
        if (hosted?.record.desired === "running" && hosted.instance === null && !this.#closing)
          await this.#launch(hosted);
      }).catch(this.#o.onError);
    }
  }

  status(): NodeStatus {
    const states: Partial<Record<StitchRecord["state"], number>> = {};
    for (const { record } of this.#hosted.values()) states[record.state] = (states[record.state] ?? 0) + 1;
    return { reserved: this.#reserved(null), stitchCount: this.#hosted.size, states };
  }

  #reserved(but: string | null): Resources {
    let { cpu, memoryBytes } = NO_RESOURCES;
    for (const [id, { record }] of this.#hosted) {
      if (id === but) continue;
      cpu += record.spec.resources.cpu;
      memoryBytes += record.spec.resources.memoryBytes;
    }
    return { cpu, memoryBytes };
  }

  /** Applies a step. Never rejects for what the stitch does: that is an outcome. */
  apply(step: StitchStep, revision: Revision): Promise<StepOutcome> {
    const id = splitFullId(step.stitch).stitch;
    return this.#inOrder(id, () => this.#apply(id, step, revision));
  }

  #inOrder<T>(id: string, work: () => Promise<T>): Promise<T> {
    const before = this.#queues.get(id) ?? Promise.resolve();
    const run = before.then(work, work);
    this.#queues.set(id, run);
    const forget = () => {
      if (this.#queues.get(id) === run) this.#queues.delete(id);
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
    const failed = (error: StepError): StepOutcome => ({
      ...done(false),
      status: error.code === "superseded" ? "superseded" : "failed",
      error,
    });
    const age = compareRevisions(revision, this.#lastRevision(id));
    if (age < 0) return failed({ code: "superseded", message: "a newer command has been applied to this stitch" });
    const recorded = this.#hosted.get(id)?.record.outcome ?? this.#removed.get(id)?.outcome ?? null;
    if (age === 0 && recorded !== null) return recorded;

    if (step.action === "create") return this.#create(id, step, revision, done, failed);
    const hosted = this.#hosted.get(id);
    if (hosted === undefined) {
      if (step.action === "remove" && this.#removed.has(id)) return done(false);
      return failed({ code: "internal", message: `${this.#o.node} has no stitch ${id}` });
    }
    switch (step.action) {
      case "start":
        this.#update(hosted, { desired: "running", revision: formatRevision(revision), outcome: null });
        return this.#finish(hosted, await this.#bringUp(hosted, step.timeoutMs, done, failed));
      case "stop": {
        this.#update(hosted, { desired: "stopped", revision: formatRevision(revision), outcome: null });
        return this.#finish(hosted, done(await this.#bringDown(hosted)));
      }
      case "remove": {
        this.#update(hosted, { desired: "stopped", revision: formatRevision(revision), outcome: null });
        await this.#bringDown(hosted);
        return this.#remove(hosted, revision, done(true));
      }
    }
  }

  async #create(
    id: string,
    step: Extract<StitchStep, { action: "create" }>,
    revision: Revision,
    done: (changed: boolean) => StepOutcome,
    failed: (error: StepError) => StepOutcome,
  ): Promise<StepOutcome> {
    const { spec } = step;
    const short = shortOf(this.#o.facts.capacity, this.#reserved(id), spec.resources);
    if (short !== null)
      return failed({
        code: "capacity_exceeded",
        message: `${this.#o.node} has not enough ${short} left for this stitch`,
      });
    if (spec.adaptor === "module")
      return failed({ code: "spawn_failed", message: `${this.#o.node} offers no module "${spec.module}"` });
    const before = this.#hosted.get(id);
    // Two creates of one id at once, planned before either was there: the first has it. Taking it over would end another's stitch.
    if (before !== undefined && before.record.revision !== formatRevision(revision))
      return failed({ code: "internal", message: `${this.#o.node} has a stitch ${id} already` });
    const record: StitchRecord = {
      id,
      group: step.group,
      spec,
      desired: step.start ? "running" : "stopped",
      state: before?.instance != null ? before.record.state : "stopped",
      health: before?.instance != null ? before.record.health : "missing",
      revision: formatRevision(revision),
      outcome: null,
      restarts: 0,
      pid: before?.instance?.pid ?? null,
      startedAtMs: before?.instance != null ? before.record.startedAtMs : null,
      lastExit: null,
      observedAtMs: this.#o.nowMs(),
    };
    const hosted = before ?? { record, instance: null, log: this.#logOf(id) };
    hosted.record = record;
    this.#hosted.set(id, hosted);
    this.#removed.delete(id);
    this.#o.disk.save(record);
    this.#o.publish([{ kind: "set", record, isNew: true }], [this.#event("stitch.created", hosted)]);
    return this.#finish(
      hosted,
      step.start ? await this.#bringUp(hosted, step.timeoutMs, done, failed, true) : done(true),
    );
  }

  async #bringUp(
    hosted: Hosted,
    timeoutMs: number,
    done: (changed: boolean) => StepOutcome,
    failed: (error: StepError) => StepOutcome,
    changed = false,
  ): Promise<StepOutcome> {
    if (hosted.instance !== null) return done(changed);
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<StepError>((resolve) => {
      timer = setTimeout(
        () => resolve({ code: "start_timeout", message: `it had not come up after ${timeoutMs} ms` }),
        timeoutMs,
      );
    });
    const error = await Promise.race([this.#launch(hosted), late]);
    clearTimeout(timer);
    return error === null ? done(true) : failed(error);
  }

  /** Starts it and watches it from then on. @returns why it did not come up, or null. */
  async #launch(hosted: Hosted): Promise<StepError | null> {
    const { id, group, spec } = hosted.record;
    const nowMs = this.#o.nowMs();
    const instance = this.#o.adaptors.process({
      node: this.#o.node,
      id,
      group,
      spec,
      dataDir: this.#o.disk.makeDataDir(id),
      session: this.#o.session,
      log: (source, line) => hosted.log.write(source, line, this.#o.nowMs()),
    });
    hosted.instance = instance;
    this.#update(hosted, { state: "starting", pid: instance.pid, startedAtMs: nowMs });
    instance.exited.then((exit) => this.#onExit(hosted, instance, exit)).catch(this.#o.onError);
    const started = await instance.started;
    if (started.kind === "failed") {
      // `exited` has been dealt with by now, or there never was a process: the reason goes on record all the same.
      if (instance.pid === null) this.#onExit(hosted, instance, { code: null, signal: null });
      await hosted.log.write("system", `${started.error.code}: ${started.error.message}`, this.#o.nowMs());
      return started.error;
    }
    if (started.kind === "running" && hosted.instance === instance && hosted.record.state === "starting")
      this.#update(hosted, { state: "running", health: "green" }, "stitch.started");
    return null;
  }

  #onExit(hosted: Hosted, instance: StitchInstance, exit: { code: number | null; signal: string | null }): void {
    if (hosted.instance !== instance) return;
    hosted.instance = null;
    const { record } = hosted;
    const asked = record.desired === "stopped" || record.state === "stopping" || this.#closing;
    const well = asked || (exit.code === 0 && record.spec.restart.policy !== "always");
    this.#update(
      hosted,
      {
        state: well ? "stopped" : "failed",
        health: "missing",
        pid: null,
        ...(instance.pid === null ? {} : { lastExit: { ...exit, atMs: this.#o.nowMs() } }),
      },
      well ? "stitch.stopped" : "stitch.failed",
    );
  }

  /** Stops what runs; resolves when its whole process tree is gone. @returns whether there was something to stop. */
  async #bringDown(hosted: Hosted): Promise<boolean> {
    const { instance } = hosted;
    if (instance === null) {
      const failed = hosted.record.state !== "stopped";
      if (failed) this.#update(hosted, { state: "stopped" });
      return failed;
    }
    this.#update(hosted, { state: "stopping" });
    const exit = await instance.stop(this.#closing ? 0 : hosted.record.spec.stopGraceMs);
    this.#onExit(hosted, instance, exit);
    return true;
  }

  #remove(hosted: Hosted, revision: Revision, outcome: StepOutcome): StepOutcome {
    const { id, group } = hosted.record;
    const record: RemovedRecord = {
      id,
      group,
      revision: formatRevision(revision),
      outcome,
      removedAtMs: this.#o.nowMs(),
    };
    this.#hosted.delete(id);
    this.#removed.set(id, record);
    hosted.log.close();
    this.#o.disk.saveRemoved(record);
    this.#o.publish([{ kind: "removed", record }], [this.#event("stitch.removed", hosted)]);
    return outcome;
  }

  #finish(hosted: Hosted, outcome: StepOutcome): StepOutcome {
    this.#update(hosted, { outcome });
    return outcome;
  }

  /** Changes a record: on disk first, then in Redis. */
  #update(hosted: Hosted, change: Partial<StitchRecord>, event?: EventType): void {
    hosted.record = { ...hosted.record, ...change, observedAtMs: this.#o.nowMs() };
    if (this.#hosted.get(hosted.record.id) !== hosted) return;
    this.#o.disk.save(hosted.record);
    this.#o.publish(
      [{ kind: "set", record: hosted.record, isNew: false }],
      event === undefined ? [] : [this.#event(event, hosted)],
    );
  }

  #event(type: EventType, { record }: Hosted): ClusterEvent {
    return {
      type,
      node: this.#o.node,
      stitch: fullId(this.#o.node, record.id),
      group: record.group,
      data: type === "stitch.failed" && record.lastExit !== null ? { lastExit: record.lastExit } : null,
    };
  }

  #logOf(id: string): StitchLog {
    return new StitchLog(this.#o.disk.logPath(id), this.#o.onError);
  }

  /** Forgets tombstones, data and logs of what was removed long enough ago. @returns their ids. */
  prune(): string[] {
    const before = this.#o.nowMs() - REMOVED_KEPT_MS;
    const old = [...this.#removed.values()].filter(({ removedAtMs }) => removedAtMs < before).map(({ id }) => id);
    for (const id of old) {
      this.#removed.delete(id);
      this.#o.disk.forget(id);
    }
    return old;
  }

  /**
   * Stops everything; what each should do stays on record, so that the next start brings it back. `graceMs` bounds every
   * stitch's own grace. Safe to repeat; with less grace it hurries.
   */
  async stopAll(graceMs: number): Promise<void> {
    this.#closing = true;
    await Promise.all(
      [...this.#hosted.values()].map(async (hosted) => {
        const { instance } = hosted;
        if (instance === null) return;
        if (hosted.record.state !== "stopping") this.#update(hosted, { state: "stopping" });
        const exit = await instance.stop(Math.min(graceMs, hosted.record.spec.stopGraceMs));
        this.#onExit(hosted, instance, exit);
      }),
    );
    for (const { log } of this.#hosted.values()) log.close();
  }
}
