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

/**
 * The name of a folder that was put aside: a stitch's id, and when
 * it was removed, in ms since 1970. Nothing else is deleted there.
 */
const ASIDE = /^[a-z0-9][a-z0-9-]{0,62}\.([1-9]\d{12})$/;
/**
 * The files that a node keeps for its stitches: the journal, `data/<id>/`, `logs/<id>.log`, `logs/<id>.log.<n>`. If a
 * removed stitch's id has a new stitch, the files of the removed one are in `removed/<id>.<when it was removed>/`.
 */
export class StitchDisk {
  readonly #dir: string;
  readonly #journal: Journal;
  readonly #onError: (error: unknown) => void;

  /** @param onError called when a write fails. The next save tries it again. */
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

  /** Saves a record. It goes to disk at the end of this turn of the event loop; see `written`. */
  save(record: StitchRecord): void {
    this.#journal.save({ kind: "stitch", record });
  }

  /**
   * Takes back the record of a new stitch that could not be written: the journal gets the record that was there before.
   * Goes to disk with the next save.
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
   * Deletes a removed stitch for good: its removed record, log and data. Resolves when a new stitch may have its id; the
   * deletion of much data may go on after that. @throws if the disk cannot delete it: try again later.
   */
  async forget(id: string, removedAtMs: number): Promise<void> {
    // Put the data aside first, so that the deletion cannot touch the data of a new stitch.
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

  /**
   * Saves a task. It goes to disk with the next save, or when `written`
   * is called. The next run of the worker finds it until it is forgotten.
   */
  saveTask(id: string, task: Dispatch): void {
    this.#journal.saveLater({ kind: "task", id, ...task });
  }

  /** Goes to disk like `saveTask`: a task that is found again costs only one more look-up. Safe to repeat. */
  forgetTask(id: string): void {
    this.#journal.saveLater({ kind: "answered", id });
  }

  /** Is there old data or an old log that a new stitch with this id would take as its own? */
  async hasLeftovers(id: string): Promise<boolean> {
    const path = this.dataDir(id);
    const look = async () => (await DATA_FOLDERS.isThere(path)) || (await LOG_FILES.isThere(this.logPath(id)));
    return answered(path, look());
  }

  /** Puts the data of a removed stitch aside. @returns the new path for its log. Safe to repeat. */
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

  /** Deletes the folders that were put aside for stitches removed before `beforeMs`. */
  async forgetAside(beforeMs: number): Promise<void> {
    const dir = join(this.#dir, "removed");
    for (const name of await DELETIONS.names(dir)) {
      const removedAtMs = ASIDE.exec(name)?.[1];
      if (removedAtMs === undefined || Number(removedAtMs) >= beforeMs) continue;
      const facts = await orNull(DELETIONS.lstat(join(dir, name)));
      if (facts?.isDirectory() === true) await DELETIONS.removeTree(join(dir, name));
    }
  }

  /** The stitch's data folder; made if it is missing. @throws NoAnswer; another error if it cannot be made. */
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
