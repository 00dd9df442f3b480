import { groupContains } from "../../../src/domain/names/group.ts";
import { NO_REVISION, parseRevision, type Revision } from "../../../src/domain/names/revision.ts";
import type { Eligibility, NodeStatus } from "../../../src/domain/node/node.ts";
import { NO_RESOURCES, type Resources } from "../../../src/domain/stitch/spec.ts";
import type { RemovedRecord, StitchRecord } from "../../../src/domain/stitch/stitch.ts";
import type { StitchChange } from "../../../src/redis/stitch/stitch-records.ts";
import type { StitchLog } from "../logs/stitch-log.ts";
import type { HostedStitch } from "./hosted-stitch.ts";

/**
 * The stitches of one node and its removed records, by bare stitch id. All questions about them are
 * answered here. Only `StitchHost` and the steps that it applies change the registry. It is in memory
 * only: `StitchHost` writes to disk and Redis.
 */
export class StitchRegistry {
  readonly #hosted = new Map<string, HostedStitch>();
  readonly #removed = new Map<string, RemovedRecord>();
  /** Logs of stitches that were removed during this run of the worker. A client may still read them. */
  readonly #oldLogs = new Map<string, StitchLog>();

  /** Adds a stitch, or replaces the stitch with the same id. Forgets the removed record of that id. */
  add(stitch: HostedStitch): void {
    this.#removed.delete(stitch.record.id);
    this.#hosted.set(stitch.record.id, stitch);
  }

  /** Replaces a stitch, if it is here, with its removed record. */
  remove(record: RemovedRecord): void {
    const stitch = this.#hosted.get(record.id);
    if (stitch !== undefined) this.#oldLogs.set(record.id, stitch.log);
    this.#hosted.delete(record.id);
    this.#removed.set(record.id, record);
  }

  /** Undoes `add` of a new stitch. @param before the removed record that its id had before. */
  undoAdd(stitch: HostedStitch, before: RemovedRecord | null): void {
    const { id } = stitch.record;
    if (this.#hosted.get(id) === stitch) this.#hosted.delete(id);
    if (before !== null) this.#removed.set(id, before);
  }

  /** Forgets the removed record and the old log of a stitch. */
  forgetRemoved(id: string): void {
    this.#removed.delete(id);
    this.#oldLogs.delete(id);
  }

  forgetOldLog(id: string): void {
    this.#oldLogs.delete(id);
  }

  all(): HostedStitch[] {
    return [...this.#hosted.values()];
  }

  ids(): string[] {
    return [...this.#hosted.keys()];
  }

  /** The ids of the stitches here and of the removed records. */
  idsWithRemoved(): string[] {
    return [...this.#hosted.keys(), ...this.#removed.keys()];
  }

  find(id: string): HostedStitch | null {
    return this.#hosted.get(id) ?? null;
  }

  findRemoved(id: string): RemovedRecord | null {
    return this.#removed.get(id) ?? null;
  }

  allRemoved(): RemovedRecord[] {
    return [...this.#removed.values()];
  }

  /** The log of a stitch; null if there is no such stitch here. */
  log(id: string): StitchLog | null {
    return this.#hosted.get(id)?.log ?? null;
  }

  /** The log of a stitch that was removed during this run of the worker. */
  oldLog(id: string): StitchLog | null {
    return this.#oldLogs.get(id) ?? null;
  }

  /** The revision of the last step that this node has taken for a stitch, including its removal. */
  lastRevision(id: string): Revision {
    const text = this.#hosted.get(id)?.record.revision ?? this.#removed.get(id)?.revision;
    return text === undefined ? NO_REVISION : parseRevision(text);
  }

  /** The highest revision this node has taken, of any stitch. */
  highestRevision(): number {
    const records = [...this.all().map(({ record }) => record), ...this.#removed.values()];
    return Math.max(0, ...records.map(({ revision }) => parseRevision(revision).revision));
  }

  /** All records of this node, for a Redis that does not have them. */
  snapshot(): StitchChange[] {
    return [
      ...this.all().map(({ record }): StitchChange => ({ kind: "set", record, isNew: true })),
      ...this.allRemoved().map((record): StitchChange => ({ kind: "removed", record, isNew: false })),
    ];
  }

  /** The current record of a stitch, or its removed record; null if there is neither. The pointers count as not written. */
  changeOf(id: string): StitchChange | null {
    const record = this.#hosted.get(id)?.record;
    if (record !== undefined) return { kind: "set", record, isNew: true };
    const removed = this.#removed.get(id);
    return removed === undefined ? null : { kind: "removed", record: removed, isNew: false };
  }

  status(eligibility: Eligibility): NodeStatus {
    const states: Partial<Record<StitchRecord["state"], number>> = {};
    for (const { record } of this.#hosted.values()) states[record.state] = (states[record.state] ?? 0) + 1;
    return { reserved: this.reserved(null), stitchCount: this.#hosted.size, states, eligibility };
  }

  /** The resources that the stitches reserve. @param except the id of a stitch that is left out. */
  reserved(except: string | null): Resources {
    let { cpu, memoryBytes } = NO_RESOURCES;
    for (const [id, { spec }] of this.#hosted) {
      if (id === except || spec === null) continue;
      cpu += spec.resources.cpu;
      memoryBytes += spec.resources.memoryBytes;
    }
    return { cpu, memoryBytes };
  }

  /** The hashes of the specs that the stitches run. */
  specHashes(): Set<string> {
    return new Set(this.all().map(({ record }) => record.specHash));
  }

  /** The stitches whose spec is not on this node. */
  withoutSpec(): StitchRecord[] {
    return this.all().flatMap(({ record, spec }) => (spec === null ? [record] : []));
  }

  /** The pids of the stitches, by stitch id. Each process leads its process group. */
  processes(): Map<string, number> {
    return new Map([...this.#hosted].flatMap(([id, { pid }]) => (pid === null ? [] : [[id, pid]])));
  }

  /** The number of running programs whose log is not open. Each log opens a file as soon as it gets a line. */
  logsToOpen(): number {
    return this.all().filter(({ pid, log }) => pid !== null && !log.isOpen).length;
  }

  /** The stitches that have moved here and whose move is not confirmed yet. `movedFrom` is a full id. */
  arriving(): { readonly id: string; readonly movedFrom: string; readonly born: string }[] {
    return this.all().flatMap(({ record: { id, movedFrom, born } }) =>
      movedFrom === null ? [] : [{ id, movedFrom, born }],
    );
  }

  /** The members of a group on this node that take messages. */
  receivers(group: string): HostedStitch[] {
    return this.all().filter(({ record }) => record.takesMessages && groupContains(group, record.group));
  }

  /** The members of a group that took messages on this node and have moved away. */
  movedAway(group: string): RemovedRecord[] {
    return this.allRemoved().filter(
      (record) =>
        record.movedTo !== null &&
        !this.isTakenBack(record.id) &&
        record.was?.takesMessages === true &&
        groupContains(group, record.group),
    );
  }

  /** The full id that a moved stitch has now; null if the stitch is removed for good or never was here. */
  movedTo(id: string): string | null {
    return this.#removed.get(id)?.movedTo ?? null;
  }

  /**
   * Did the move of this stitch to this node fail, so that it went back?
   * Then messages for its groups also reached it at its source node.
   */
  isTakenBack(id: string): boolean {
    return this.#removed.get(id)?.takenBack === true;
  }
}
