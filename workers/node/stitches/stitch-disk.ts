import { mkdirSync } from "node:fs";
import { join } from "node:path";
import type { Dispatch } from "../../../src/domain/job/job.ts";
import { errorText } from "../../../src/error-text.ts";
import type { RemovedRecord, StitchRecord } from "../../../src/domain/stitch/stitch.ts";
import type { Launch } from "../processes/launches.ts";
import { Journal, type JournalContents } from "./journal.ts";
import { answered, DATA_FOLDERS, DELETIONS, LOG_FILES, NoAnswer, orNull } from "../files/bounded-files.ts";
import { numbersAside } from "../logs/log-files.ts";
import { FOLDER_MODE } from "../files/own-files.ts";

/** A folder of a stitch that was put aside: its id, and when it was removed, in ms since 1970. Nothing else is deleted there. */
const ASIDE = /^[a-z0-9][a-z0-9-]{0,62}\.([1-9]\d{12})$/;
/**
 * What a node keeps of its stitches on its disk: the journal, `data/<id>/`, `logs/<id>.log`, `logs/<id>.log.<n>`; and of a removed
 * one under whose id there is another, `removed/<id>.<when it was removed>/`.
 */
export class StitchDisk {
  readonly #dir: string;
  readonly #journal: Journal;
  readonly #onError: (error: unknown) => void;

  /** @param onError told of what could not be written; it is tried again with what is saved next. */
  constructor(dir: string, onError: (error: unknown) => void) {
    mkdirSync(dir, { recursive: true, mode: FOLDER_MODE });
    this.#dir = dir;
    this.#journal = new Journal(dir, onError);
    this.#onError = onError;
  }

  /** See `Journal.load`. */
  load(): JournalContents {
    return this.#journal.load();
  }

  /** See `Journal.written`. */
  written(): Promise<void> {
    return this.#journal.written();
  }

  /** See `Journal.close`. */
  close(): Promise<boolean> {
    return this.#journal.close();
  }

  /** Goes to disk at the end of this turn of the event loop; see `written`. */
  save(record: StitchRecord): void {
    this.#journal.save({ kind: "stitch", record });
  }

  /**
   * Takes back the record of a new stitch that could not be written: the journal has what was there before. Goes to disk with
   * what is saved next.
   */
  takeBack(id: string, before: RemovedRecord | null): void {
    this.#journal.saveLater(
      before === null ? { kind: "forgotten", record: { id } } : { kind: "removed", record: before },
    );
  }

  /** As `save`. */
  saveRemoved(record: RemovedRecord): void {
    this.#journal.save({ kind: "removed", record });
  }

  /** As `save`. */
  saveLaunch(record: Launch): void {
    this.#journal.save({ kind: "launched", record });
  }

  /** As `save`. Safe to repeat. */
  forgetLaunch(record: Launch): void {
    this.#journal.save({ kind: "launch ended", record });
  }

  /**
   * Deletes a removed stitch for good: its tombstone, log and data. Resolves when a new one may have its id; where there is
   * much of its data, that goes on. @throws where the disk does not let go of it: then it is to be forgotten later.
   */
  async forget(id: string, removedAtMs: number): Promise<void> {
    // First out of the way: what deletes it must not meet a new one's.
    await this.putAside(id, removedAtMs);
    const log = this.logPath(id);
    const deleteLog = async () => {
      for (const number of await numbersAside(log)) await LOG_FILES.removeFile(`${log}.${number}`);
      await LOG_FILES.removeFile(log);
    };
    await answered(log, deleteLog());
    this.#journal.save({ kind: "forgotten", record: { id } });
    DELETIONS.removeTree(this.#aside(id, removedAtMs)).catch(this.#onError);
  }

  /** Goes to disk with what is saved next, or when `written` is asked for. The next life finds it until it is forgotten. */
  saveTask(id: string, task: Dispatch): void {
    this.#journal.saveLater({ kind: "task", id, ...task });
  }

  /** As `saveTask`: a task that is found again is only looked up once more. Safe to repeat. */
  forgetTask(id: string): void {
    this.#journal.saveLater({ kind: "answered", id });
  }

  /** Is there data or a log that a new stitch under this id would take for its own? */
  async hasLeftovers(id: string): Promise<boolean> {
    const path = this.dataDir(id);
    const look = async () => (await DATA_FOLDERS.isThere(path)) || (await LOG_FILES.isThere(this.logPath(id)));
    return answered(path, look());
  }

  /** Puts the data of a removed stitch aside. @returns where its log is to go. Safe to repeat. */
  putAside(id: string, removedAtMs: number): Promise<string> {
    const aside = this.#aside(id, removedAtMs);
    const path = this.dataDir(id);
    const put = async () => {
      await DATA_FOLDERS.makeFolder(aside, FOLDER_MODE);
      if (await DATA_FOLDERS.isThere(path)) await DATA_FOLDERS.rename(path, join(aside, "data"));
      return join(aside, `${id}.log`);
    };
    return answered(path, put());
  }

  /** Deletes for good what was put aside of stitches that were removed before then. */
  async forgetAside(beforeMs: number): Promise<void> {
    const dir = join(this.#dir, "removed");
    for (const name of await DELETIONS.names(dir)) {
      const removedAtMs = ASIDE.exec(name)?.[1];
      if (removedAtMs === undefined || Number(removedAtMs) >= beforeMs) continue;
      const facts = await orNull(DELETIONS.lstat(join(dir, name)));
      if (facts?.isDirectory() === true) await DELETIONS.removeTree(join(dir, name));
    }
  }

  /** The stitch's own folder, made if it is not there. @throws NoAnswer, and where it cannot be made. */
  async makeDataDir(id: string): Promise<string> {
    const path = this.dataDir(id);
    try {
      await answered(path, DATA_FOLDERS.makeFolder(path, FOLDER_MODE));
    } catch (cause) {
      if (cause instanceof NoAnswer) throw cause;
      throw new Error(`${path} cannot be made (${errorText(cause)}); see to its disk`, { cause });
    }
    return path;
  }

  dataDir(id: string): string {
    return join(this.#dir, "data", id);
  }

  logPath(id: string): string {
    return join(this.#dir, "logs", `${id}.log`);
  }

  #aside(id: string, removedAtMs: number): string {
    return join(this.#dir, "removed", `${id}.${removedAtMs}`);
  }
}
