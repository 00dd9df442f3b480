import { type FileHandle, mkdir, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import * as z from "zod";
import { type Dispatch, dispatch } from "../../../src/domain/job/job.ts";
import {
  removedRecord,
  type RemovedRecord,
  stitchRecord,
  type StitchRecord,
} from "../../../src/domain/stitch/stitch.ts";
import { FORMAT, otherFormat } from "../../../src/redis/format.ts";
import { answered, NoAnswer, STATE_FILES } from "../files/bounded-files.ts";
import { FOLDER_MODE, makeOwnFile, readOwnFile, syncFolder } from "../files/own-files.ts";
import { launch, type Launch } from "../processes/launches.ts";

const journalLine = z.discriminatedUnion("kind", [
  z.object({ kind: z.literal("stitch"), record: stitchRecord }),
  z.object({ kind: z.literal("removed"), record: removedRecord }),
  z.object({ kind: z.literal("forgotten"), record: z.object({ id: z.string() }) }),
  // Tasks that wait for stitches to come up, by the id of their dispatch (see `TaskJournal`).
  z.object({ kind: z.literal("task"), id: z.string(), ...dispatch.shape }),
  z.object({ kind: z.literal("answered"), id: z.string() }),
  z.object({ kind: z.literal("launched"), record: launch }),
  z.object({ kind: z.literal("launch ended"), record: launch }),
]);
type JournalLine = z.input<typeof journalLine>;

/** The first line of every journal. */
const formatLine = z.object({ kind: z.literal("format"), format: z.int() });

/** The contents of the journal: stitches, removed records, unanswered tasks and running programs. */
export type JournalContents = {
  stitches: StitchRecord[];
  removed: RemovedRecord[];
  tasks: Dispatch[];
  launches: Launch[];
};

/** Thrown when a journal is stored in another format: this version would misread it. */
export class JournalFormatRefused extends Error {
  override readonly name = "JournalFormatRefused";
}

/** The key of a line. The last line of each key counts. */
function keyOf(line: JournalLine): string {
  switch (line.kind) {
    case "task":
    case "answered":
      return `task ${line.id}`;
    case "launched":
    case "launch ended":
      return `launch ${line.record.bootId} ${line.record.pid} ${line.record.startedAt}`;
    case "stitch":
    case "removed":
    case "forgotten":
      return line.record.id;
  }
}

/** The journal is rewritten when it has grown to twice its length after the last rewrite, plus this many characters. */
const MOST_OLD_CHARACTERS = 1024 * 1024;
/** Characters in one write: one text of all lines could be longer than a string can be. */
const CHARACTERS_AT_ONCE = 1024 * 1024;
const LINE_END = 10;

/**
 * The journal on a node's disk, `stitches.jsonl`. It has a line for each saved state of a record; the
 * last line of each id counts. It also has a line for each program that was started, until the program
 * is gone. Lines saved in one turn of the event loop are appended together, only the newest of each
 * stitch. With a file for each stitch, written at each change, a command on a thousand stitches would
 * spend most of its time there. A crash leaves a journal that ends earlier, perhaps within a line.
 *
 * Only `load` blocks the event loop. If the disk does not answer, waiting callers
 * get an error after 5 s, and the lines are written once the disk answers.
 */
export class Journal {
  readonly #dir: string;
  readonly #path: string;
  readonly #onError: (error: unknown) => void;
  /** The newest line of each key: the contents of a rewritten journal. */
  readonly #newest = new Map<string, JournalLine>();
  #unwritten = new Map<string, JournalLine>();
  /** The next write, which takes the gathered lines; null if none is planned. */
  #planned: Promise<void> | null = null;
  /** Resolves when the last write has ended, however long that takes. */
  #lastEnded: Promise<void> = Promise.resolve();
  /** Like `written`, for the last write. */
  #lastWritten: Promise<void> = Promise.resolve();
  /** The journal, open for appending; null if it must be rewritten. */
  #file: FileHandle | null = null;
  #characters = 0;
  /** The journal is rewritten when it is longer than this. */
  #mostCharacters = 0;
  #closed = false;

  /** @param onError called when a write fails. The next save tries it again. */
  constructor(dir: string, onError: (error: unknown) => void) {
    this.#dir = dir;
    this.#path = join(dir, "stitches.jsonl");
    this.#onError = onError;
  }

  /**
   * @throws JournalFormatRefused; NotOwn if the journal belongs to another user; an error that names the line if a line
   *   cannot be read, because guessing could start a removed stitch.
   */
  load(): JournalContents {
    const newest = new Map<string, z.output<typeof journalLine>>();
    for (const { text, number, isWhole } of linesOf(this.#path)) {
      if (number === 1) {
        if (!isWhole) throw this.#noJournal();
        this.#checkFormat(text);
        continue;
      }
      try {
        const line = journalLine.parse(JSON.parse(text));
        newest.set(keyOf(line), line);
      } catch (cause) {
        // A crash has cut off this line.
        if (!isWhole) break;
        const where = `line ${number} of ${this.#path}`;
        throw new Error(`${where} cannot be read as a stitch's record; repair or delete that line`, { cause });
      }
    }
    const stitches: StitchRecord[] = [];
    const removed: RemovedRecord[] = [];
    const tasks: Dispatch[] = [];
    const launches: Launch[] = [];
    for (const [key, line] of newest) {
      if (isOver(line)) continue;
      this.#newest.set(key, line);
      if (line.kind === "stitch") stitches.push(line.record);
      else if (line.kind === "removed") removed.push(line.record);
      else if (line.kind === "launched") launches.push(line.record);
      else tasks.push(line);
    }
    return { stitches, removed, tasks, launches };
  }

  /**
   * A journal is created with a complete first line. If that line is
   * missing, someone has changed the file, or its disk has lost it.
   */
  #noJournal(): Error {
    return new Error(
      `${this.#path} is empty, or cut off in its first line; put a copy of it there, or delete it: ` +
        "the node then takes what Redis holds of its stitches",
    );
  }

  #checkFormat(text: string): void {
    const line = formatLine.safeParse(parsedOrNull(text));
    // Format 1 had no format line.
    const format = line.success ? line.data.format : 1;
    if (format !== FORMAT) throw new JournalFormatRefused(otherFormat(this.#path, String(format)));
  }

  /** Saves a line at the end of this turn of the event loop; see `written`. */
  save(line: JournalLine): void {
    this.saveLater(line);
    // A caller that needs the result awaits `written`; `onError` reports the failure in any case.
    if (this.#planned === null) this.#write().catch(() => undefined);
  }

  /** Saves a line with the next save, or when `written` is called. */
  saveLater(line: JournalLine): void {
    const key = keyOf(line);
    if (isOver(line)) this.#newest.delete(key);
    else this.#newest.set(key, line);
    this.#unwritten.set(key, line);
  }

  /** Resolves when everything saved before is on disk. @throws if it cannot be written, or not within 5 s. */
  written(): Promise<void> {
    if (this.#planned !== null) return this.#planned;
    return this.#unwritten.size > 0 ? this.#write() : this.#lastWritten;
  }

  /**
   * Writes what is left and closes the journal, because another worker may use it next. Later saves are
   * not written. Safe to repeat. @returns false if the disk does not answer: then no other worker may
   * have the journal before this process ends.
   */
  async close(): Promise<boolean> {
    if (this.#closed) return true;
    // A failed write has been reported. A late write may still succeed, and the line that takes it back must come after it.
    const isLate = await this.written().then(
      () => false,
      (error: unknown) => error instanceof NoAnswer,
    );
    if (isLate) return false;
    this.#closed = true;
    const closed = answered(
      this.#path,
      STATE_FILES.run(() => this.#closeFile()),
    );
    return closed.then(
      () => true,
      (error: unknown) => {
        this.#onError(error);
        return !(error instanceof NoAnswer);
      },
    );
  }

  /** One write after the other. Lines saved during a write go with the next one. */
  #write(): Promise<void> {
    const before = this.#lastEnded;
    const write = async () => {
      await before;
      // Wait for the end of this turn of the event loop, so that its lines are written together.
      await new Promise((resolve) => setImmediate(resolve));
      this.#planned = null;
      this.#lastWritten = written;
      await STATE_FILES.run(() => this.#commit());
      // The write may have been late, but it is done now.
      this.#lastWritten = Promise.resolve();
    };
    const writing = write();
    const written = answered(this.#path, writing);
    this.#lastEnded = writing.catch(() => undefined);
    written.catch(this.#onError);
    this.#planned = written;
    return written;
  }

  async #commit(): Promise<void> {
    if (this.#unwritten.size === 0 || this.#closed) return;
    let lines: ReadonlyMap<string, JournalLine> = new Map();
    let sizeBefore: number | null = null;
    try {
      const facts = await this.#file?.stat();
      // Someone has deleted the file, so appended lines would be lost.
      if (facts?.nlink === 0) await this.#closeFile();
      sizeBefore = facts?.size ?? null;
      lines = this.#unwritten;
      this.#unwritten = new Map();
      if (this.#file === null) await this.#writeAnew();
      else this.#characters += await append(this.#file, lines);
    } catch (cause) {
      this.#unwritten = new Map([...lines, ...this.#unwritten]);
      // A part of the lines may be in the file. Nothing may follow that
      // part, and the next run of the worker must not find refused lines.
      if (sizeBefore !== null) await this.#file?.truncate(sizeBefore).catch(this.#onError);
      await this.#closeFile();
      throw new Error(`${this.#path} cannot be written; see to its disk`, { cause });
    }
    // Lines that wait to be written may still be refused, so they must not be in a rewritten journal.
    if (this.#characters > this.#mostCharacters && this.#unwritten.size === 0) await this.#shorten();
  }

  /** Rewrites the journal. If there is no room for that, the old journal stays in use, and the next try comes later. */
  async #shorten(): Promise<void> {
    try {
      await this.#writeAnew();
    } catch (error) {
      this.#mostCharacters = 2 * this.#characters;
      this.#onError(error);
    }
  }

  async #writeAnew(): Promise<void> {
    const path = `${this.#path}.new`;
    // Lines saved during the rewrite go with the next write, and may be refused.
    const lines = new Map(this.#newest);
    await mkdir(this.#dir, { recursive: true, mode: FOLDER_MODE });
    const file = await makeOwnFile(path);
    let characters = 0;
    try {
      await file.appendFile(`${JSON.stringify({ kind: "format", format: FORMAT })}\n`);
      characters = await append(file, lines);
      // Otherwise a power cut may leave the new name with no contents.
      await file.sync();
      await rename(path, this.#path);
      await syncFolder(this.#dir);
    } catch (error) {
      await file.close();
      await rm(path, { force: true });
      throw error;
    }
    await this.#closeFile();
    this.#file = file;
    this.#characters = characters;
    this.#mostCharacters = 2 * this.#characters + MOST_OLD_CHARACTERS;
  }

  async #closeFile(): Promise<void> {
    const file = this.#file;
    this.#file = null;
    await file?.close();
  }
}

function parsedOrNull(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

type OverLine = Extract<JournalLine, { kind: "forgotten" | "answered" | "launch ended" }>;

/** Does the line say that its subject is gone? */
const isOver = <Line extends JournalLine>(line: Line): line is Extract<Line, OverLine> =>
  line.kind === "forgotten" || line.kind === "answered" || line.kind === "launch ended";

/** @returns how many characters it has written. */
async function append(file: FileHandle, lines: ReadonlyMap<string, JournalLine>): Promise<number> {
  let written = 0;
  let text = "";
  for (const line of lines.values()) {
    text += `${JSON.stringify(line)}\n`;
    if (text.length < CHARACTERS_AT_ONCE) continue;
    await file.appendFile(text);
    written += text.length;
    text = "";
  }
  await file.appendFile(text);
  return written + text.length;
}

/** The lines of a file, one string each, however long the file is; none if there is no file. */
function* linesOf(path: string): Generator<{ text: string; number: number; isWhole: boolean }> {
  const bytes = readOwnFile(path);
  if (bytes === null) return;
  if (bytes.length === 0) yield { text: "", number: 1, isWhole: false };
  for (let at = 0, number = 1; at < bytes.length; number++) {
    const end = bytes.indexOf(LINE_END, at);
    const isWhole = end !== -1;
    const next = isWhole ? end : bytes.length;
    yield { text: bytes.toString("utf8", at, next), number, isWhole };
    at = next + 1;
  }
}
