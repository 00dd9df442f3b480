import { splitFullId } from "../../../src/domain/names/ids.ts";
import type { StitchStep, Task } from "../../../src/domain/job/job.ts";
import type { Eligibility, NodeRecord } from "../../../src/domain/node/node.ts";
import {
  compareRevisions,
  formatRevision,
  NO_REVISION,
  parseRevision,
  type Revision,
} from "../../../src/domain/names/revision.ts";
import type { Health, StepError, StepOutcome, StitchRecord } from "../../../src/domain/stitch/stitch.ts";
import { buries, mayConfirmArrival, type Tombstone, type Traces } from "../../../src/domain/job/tombstone.ts";
import { node as nodeRecord, record as stitchRecord, specOf } from "./observed.ts";

/**
 * How a stitch behaves when it is started on a node: `late` turns green after a while, `never` runs and never turns green,
 * `fails` exits.
 */
export type Temper = "green" | "late" | "never" | "fails";
const LATE_MS = 1500;

type Hosted = { record: StitchRecord; greenAtMs: number };
type Removed = { revision: string; born: string; outcome: StepOutcome | null; movedTo: string | null };
/** A task that was taken up, and the steps of it that are still to be carried out. */
export type Work = { readonly task: Task; readonly left: number[] };

export const outcome = (status: StepOutcome["status"], changed: boolean, error: StepError | null = null) => ({
  status,
  changed,
  startedAtMs: 0,
  finishedAtMs: 0,
  output: null,
  error,
});
const done = (changed: boolean): StepOutcome => outcome("succeeded", changed);
const failed = (code: StepError["code"], message: string): StepOutcome =>
  outcome(code === "superseded" ? "superseded" : "failed", false, { code, message });

/** A node whose stitches follow the rules of the stitch host, each step in one moment. It may die and come back. */
export class SimulatedNode {
  readonly id: string;
  readonly zones: readonly string[];
  readonly #temper: (fullId: string) => Temper;
  alive = true;
  incarnation = 1;
  startedAtMs = 0;
  #diedAtMs = 0;
  eligibility: Eligibility = "eligible";
  eligibilityRevision: Revision = NO_REVISION;
  uncordonedBy = 0;
  readonly stitches = new Map<string, Hosted>();
  readonly removed = new Map<string, Removed>();
  /** What Masters left for this node while it was away. */
  readonly tombstones = new Map<string, Tombstone>();
  /** The stitches whose records Masters removed while this node was away. */
  readonly dropped = new Set<string>();
  work: Work[] = [];

  constructor(id: string, zones: readonly string[], temper: (fullId: string) => Temper) {
    this.id = id;
    this.zones = zones;
    this.#temper = temper;
  }

  /** Adds a stitch from before the job that runs, and is green from `greenAtMs` on. */
  has(id: string, over: Partial<StitchRecord> = {}, greenAtMs = 0): void {
    this.stitches.set(id, { record: stitchRecord(`${this.id}:${id}`, over), greenAtMs });
  }

  /** What Redis says at `nowMs`. For a dead node, this is its last report. */
  told(nowMs: number): Map<string, StitchRecord> {
    const atMs = this.alive ? nowMs : this.#diedAtMs;
    return new Map(
      [...this.stitches].flatMap(([id, { record, greenAtMs }]) => {
        if (this.dropped.has(id)) return [];
        const health: Health = record.state !== "running" ? "missing" : atMs >= greenAtMs ? "green" : "yellow";
        const healthySinceMs = health === "green" ? greenAtMs : null;
        return [[`${this.id}:${id}`, { ...record, health, healthySinceMs }] as const];
      }),
    );
  }

  asRecord(nowMs: number): NodeRecord {
    let [cpu, memoryBytes] = [0, 0];
    for (const { record } of this.stitches.values()) {
      const { resources } = specOf(record);
      cpu += resources.cpu;
      memoryBytes += resources.memoryBytes;
    }
    const facts = { zones: [...this.zones], labels: {}, capacity: { cpu: 64, memoryBytes: 1e9 }, modules: [] };
    return nodeRecord(this.id, {
      incarnation: this.incarnation,
      leaseUntilMs: this.alive ? nowMs + 1000 : 0,
      readAtMs: nowMs,
      facts: { ...facts, version: "1" },
      status: {
        reserved: { cpu, memoryBytes },
        stitchCount: this.stitches.size,
        states: {},
        eligibility: this.eligibility,
      },
      eligibility: this.eligibility,
      uncordonedBy: this.uncordonedBy,
    });
  }

  /** Is the stitch here, and will it stay when the node is back? */
  keeps(id: string): boolean {
    const word = this.tombstones.get(id);
    const hosted = this.stitches.get(id);
    return hosted !== undefined && (word === undefined || !buries(word, hosted.record));
  }

  /** All that Redis knows about a stitch here. */
  traces(id: string): Traces {
    const record = this.stitches.get(id)?.record ?? null;
    return { record, removed: this.removed.get(id) ?? null, tombstone: this.tombstones.get(id) ?? null };
  }

  #last(id: string): Revision {
    const text = this.stitches.get(id)?.record.revision ?? this.removed.get(id)?.revision ?? "0.0";
    return parseRevision(text);
  }

  /** @param interrupted the step has begun, and is cut off before its end is known. */
  apply(step: StitchStep, revision: Revision, nowMs: number, interrupted = false): StepOutcome {
    const { stitch: id } = splitFullId(step.stitch);
    const hosted = this.stitches.get(id);
    if (step.born !== undefined && hosted !== undefined && hosted.record.born !== step.born)
      return failed("superseded", "another stitch");
    if (step.action === "settle" && hosted !== undefined) hosted.record = { ...hosted.record, movedFrom: null };
    const takesBack = step.action === "remove" && step.arrivingFrom !== undefined;
    const age = takesBack ? 1 : compareRevisions(revision, this.#last(id));
    if (age < 0) return step.action === "settle" ? done(false) : failed("superseded", "a newer command");
    const recorded = hosted?.record.outcome ?? this.removed.get(id)?.outcome ?? null;
    if (age === 0 && recorded !== null) return recorded;
    if (step.action === "create") return this.#create(id, step, revision, nowMs, interrupted);
    if (step.action === "remove" && step.arrivingFrom !== undefined)
      if (hosted?.record.movedFrom !== step.arrivingFrom) return done(false);
    if (hosted === undefined) {
      const removed = this.removed.get(id);
      if (removed?.movedTo != null) return failed("superseded", "it has moved");
      if (step.action === "remove" && step.movedTo === undefined && removed !== undefined) return done(false);
      return failed("internal", `no stitch ${id}`);
    }
    const desired = step.action === "settle" ? hosted.record.desired : DESIRED[step.action];
    const { revision: last, born } = hosted.record;
    const newest = age > 0 && compareRevisions(revision, parseRevision(last)) > 0 ? formatRevision(revision) : last;
    hosted.record = { ...hosted.record, desired, revision: newest, outcome: null };
    if (interrupted) return failed("internal", "nobody hears of this");
    if (step.action === "remove") {
      this.#bury(id, { revision: newest, born, outcome: done(true), movedTo: step.movedTo ?? null });
      return done(true);
    }
    if (step.action === "stop") hosted.record = { ...hosted.record, state: "stopped" };
    const result = step.action === "start" || step.action === "restart" ? this.#start(hosted, nowMs) : done(true);
    hosted.record = { ...hosted.record, outcome: result };
    return result;
  }

  #create(
    id: string,
    step: Extract<StitchStep, { action: "create" }>,
    revision: Revision,
    nowMs: number,
    interrupted: boolean,
  ): StepOutcome {
    const before = this.stitches.get(id);
    if (before !== undefined && before.record.revision !== formatRevision(revision))
      return failed("internal", `${this.id} has a stitch ${id} already`);
    if (before === undefined && this.eligibility !== "eligible" && step.restores !== true)
      return failed("superseded", `${this.id} takes no new stitches`);
    const record = stitchRecord(step.stitch, {
      group: step.group,
      spec: specOf(step),
      placement: step.placement ?? { strategy: "spread" },
      movedFrom: step.movedFrom ?? null,
      desired: step.start ? "running" : "stopped",
      state: "stopped",
      health: "missing",
      revision: formatRevision(revision),
      born: step.born ?? formatRevision(revision),
    });
    const hosted: Hosted = before ?? { record, greenAtMs: 0 };
    this.removed.delete(id);
    this.stitches.set(id, hosted);
    if (interrupted) return failed("internal", "nobody hears of this");
    const result = step.start ? this.#start(hosted, nowMs) : done(true);
    hosted.record = { ...hosted.record, outcome: result };
    return result;
  }

  #start(hosted: Hosted, nowMs: number): StepOutcome {
    const temper = this.#temper(`${this.id}:${hosted.record.id}`);
    hosted.record = { ...hosted.record, state: temper === "fails" ? "backoff" : "running" };
    hosted.greenAtMs = temper === "green" ? nowMs : temper === "late" ? nowMs + LATE_MS : Number.POSITIVE_INFINITY;
    if (temper !== "fails") return done(true);
    return outcome("failed", true, { code: "exited_early", message: "it exited" });
  }

  #bury(id: string, removed: Removed): void {
    this.stitches.delete(id);
    this.removed.set(id, removed);
  }

  die(nowMs: number): void {
    this.alive = false;
    this.#diedAtMs = nowMs;
    this.work = [];
  }

  /**
   * Registers again: tombstones first, then it starts what should run.
   * @param tracesOf what Redis knows about a full id.
   */
  comeBack(nowMs: number, tracesOf: (fullId: string) => Traces): void {
    this.alive = true;
    this.incarnation += 1;
    this.startedAtMs = nowMs;
    this.dropped.clear();
    for (const id of this.tombstones.keys()) this.obey(id);
    for (const hosted of this.stitches.values()) {
      const { id, movedFrom, born, desired } = hosted.record;
      if (movedFrom !== null && mayConfirmArrival({ id: `${this.id}:${id}`, born }, tracesOf(movedFrom)) === "yes")
        hosted.record = { ...hosted.record, movedFrom: null };
      if (desired === "running") this.#start(hosted, nowMs);
    }
  }

  obey(id: string): void {
    const word = this.tombstones.get(id);
    const hosted = this.stitches.get(id);
    if (word === undefined || hosted === undefined || this.keeps(id)) return;
    this.#bury(id, { ...word, born: hosted.record.born, outcome: null });
  }
}

const DESIRED = { start: "running", restart: "running", stop: "stopped", remove: "stopped" } as const;
