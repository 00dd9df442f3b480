import type { EventType } from "../../../src/domain/event.ts";
import type { StitchRecord } from "../../../src/domain/stitch/stitch.ts";
import type { StitchDisk } from "./stitch-disk.ts";

/** An event about a stitch, for the cluster. */
export type StitchEvent = { readonly type: EventType; readonly data?: Record<string, unknown> };

type KeptRecordOptions = {
  readonly disk: Pick<StitchDisk, "save">;
  readonly nowMs: () => number;
  /** Called after each change of the record. */
  readonly onChange: (event: StitchEvent | null) => void;
};

/** The record of one stitch: in memory, and on disk if a change must outlive this worker. */
export class KeptRecord {
  readonly #options: KeptRecordOptions;
  #record: StitchRecord;
  #changed = Promise.withResolvers<void>();

  constructor(record: StitchRecord, options: KeptRecordOptions) {
    this.#record = record;
    this.#options = options;
  }

  get current(): StitchRecord {
    return this.#record;
  }

  /** Resolves at the next change of its state or health. */
  get stateChanged(): Promise<void> {
    return this.#changed.promise;
  }

  update(change: Partial<StitchRecord>, event: StitchEvent | null = null): void {
    const before = this.#record;
    const { disk, nowMs, onChange } = this.#options;
    const isGreen = (change.health ?? before.health) === "green";
    const healthySinceMs = isGreen ? (before.healthySinceMs ?? nowMs()) : null;
    this.#record = { ...before, healthySinceMs, ...change, observedAtMs: nowMs() };
    if (mustOutlive(before, this.#record)) disk.save(this.#record);
    onChange(event);
    if (before.health === this.#record.health && before.state === this.#record.state) return;
    this.#changed.resolve();
    this.#changed = Promise.withResolvers();
  }
}

/** The fields that a restarted worker does not use. Of `state` it needs only whether the stitch has failed. */
const ONLY_IN_MEMORY: ReadonlySet<string> = new Set<keyof StitchRecord>([
  "state",
  "health",
  "healthySinceMs",
  "pid",
  "startedAtMs",
  // This field goes to disk with the changes that follow from it.
  "lastExit",
  "observedAtMs",
]);

/** Is there a change that the next run of the worker must know? */
function mustOutlive(before: StitchRecord, after: StitchRecord): boolean {
  if ((before.state === "failed") !== (after.state === "failed")) return true;
  return (Object.keys(after) as (keyof StitchRecord)[]).some(
    (key) => !ONLY_IN_MEMORY.has(key) && before[key] !== after[key],
  );
}
