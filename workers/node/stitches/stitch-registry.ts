import { groupContains } from "../../../src/domain/names/group.ts";
import { NO_REVISION, parseRevision, type Revision } from "../../../src/domain/names/revision.ts";
import type { Eligibility, NodeStatus } from "../../../src/domain/node/node.ts";
import { NO_RESOURCES, type Resources } from "../../../src/domain/stitch/spec.ts";
import type { RemovedRecord, StitchRecord } from "../../../src/domain/stitch/stitch.ts";
import type { StitchChange } from "../../../src/redis/stitch/stitch-records.ts";
import type { StitchLog } from "../logs/stitch-log.ts";
import type { HostedStitch } from "./hosted-stitch.ts";

/**
 * The stitches of one node, and what is left of removed ones, by bare stitch id. It answers every question about them; only
 * `StitchHost` and the steps it applies change it. It holds what is in memory: disk and Redis are told by `StitchHost`.
 */
export class StitchRegistry {
  readonly #hosted = new Map<string, HostedStitch>();
  readonly #removed = new Map<string, RemovedRecord>();
  /** Logs of stitches that were removed in this life of the worker: somebody may be reading them. */
  readonly #oldLogs = new Map<string, StitchLog>();

  /** Adds a stitch, or replaces the one of its id; what was left of a removed one is forgotten. */
  add(stitch: HostedStitch): void {
    this.#removed.delete(stitch.record.id);
    this.#hosted.set(stitch.record.id, stitch);
  }

  /** Replaces a stitch, where it is here, by what is left of it. */
  remove(record: RemovedRecord): void {
    const stitch = this.#hosted.get(record.id);
    if (stitch !== undefined) this.#oldLogs.set(record.id, stitch.log);
    this.#hosted.delete(record.id);
    this.#removed.set(record.id, record);
  }

  /** Undoes `add` of a new stitch. @param before what a removed one had left under its id. */
  undoAdd(stitch: HostedStitch, before: RemovedRecord | null): void {
    const { id } = stitch.record;
    if (this.#hosted.get(id) === stitch) this.#hosted.delete(id);
    if (before !== null) this.#removed.set(id, before);
  }

  /** Forgets what is left of a removed stitch. */
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

  /** Of the stitches here, and of what is left of removed ones. */
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

  /** The log of a stitch; null where there is no such stitch here. */
  log(id: string): StitchLog | null {
    return this.#hosted.get(id)?.log ?? null;
  }

  /** The log of a stitch that was removed in this life of the worker. */
  oldLog(id: string): StitchLog | null {
    return this.#oldLogs.get(id) ?? null;
  }

  /** The revision of the last step that this node has taken for a stitch, its removal included. */
  lastRevision(id: string): Revision {
    const text = this.#hosted.get(id)?.record.revision ?? this.#removed.get(id)?.revision;
    return text === undefined ? NO_REVISION : parseRevision(text);
  }

  /** The highest revision this node has taken, of any stitch. */
  highestRevision(): number {
    const records = [...this.all().map(({ record }) => record), ...this.#removed.values()];
    return Math.max(0, ...records.map(({ revision }) => parseRevision(revision).revision));
  }

  /** Everything that is here, for a Redis that does not know it. */
  snapshot(): StitchChange[] {
    return [
      ...this.all().map(({ record }): StitchChange => ({ kind: "set", record, isNew: true })),
      ...this.allRemoved().map((record): StitchChange => ({ kind: "removed", record, isNew: false })),
    ];
  }

  /** A stitch as it is now, or what is left of it; null where nothing is. Its pointers count as not written. */
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

  /** What the stitches reserve. @param except the id of one that is left out. */
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

  /** The processes of the stitches, by stitch id: each the leader of its group. */
  processes(): Map<string, number> {
    return new Map([...this.#hosted].flatMap(([id, { pid }]) => (pid === null ? [] : [[id, pid]])));
  }

  /** How many programs run whose log is not open: each opens a file as soon as it writes a line. */
  logsToOpen(): number {
    return this.all().filter(({ pid, log }) => pid !== null && !log.isOpen).length;
  }

  /** The stitches that have moved here, and whose move is not confirmed; `movedFrom` is a full id. */
  arriving(): { readonly id: string; readonly movedFrom: string; readonly born: string }[] {
    return this.all().flatMap(({ record: { id, movedFrom, born } }) =>
      movedFrom === null ? [] : [{ id, movedFrom, born }],
    );
  }

  /** The members of a group here that take messages. */
  receivers(group: string): HostedStitch[] {
    return this.all().filter(({ record }) => record.takesMessages && groupContains(group, record.group));
  }

  /** The members of a group that took messages here, and have moved away. */
  movedAway(group: string): RemovedRecord[] {
    return this.allRemoved().filter(
      (record) =>
        record.movedTo !== null &&
        !this.isTakenBack(record.id) &&
        record.was?.takesMessages === true &&
        groupContains(group, record.group),
    );
  }

  /** The full id under which a stitch that was here lives on; null where it is gone for good, or never was here. */
  movedTo(id: string): string | null {
    return this.#removed.get(id)?.movedTo ?? null;
  }

  /** Did its move here fail, so that it went back? Then messages for its groups reached it at the node it came from, too. */
  isTakenBack(id: string): boolean {
    return this.#removed.get(id)?.takenBack === true;
  }
}
