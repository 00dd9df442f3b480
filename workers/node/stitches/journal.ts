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

/** What the journal holds of stitches, of removed ones, of unanswered tasks and of programs that run. */
export type JournalContents = {
  stitches: StitchRecord[];
  removed: RemovedRecord[];
  tasks: Dispatch[];
  launches: Launch[];
};

/** Thrown where a journal is stored in another format: what one version writes, another would misread. */
export class JournalFormatRefused extends Error {
  override readonly name = "JournalFormatRefused";
}

/** What a line is of: of each, the last one counts. */
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

/** The journal is written anew where it has grown by so many characters, and to twice what it was. */
const MOST_OLD_CHARACTERS = 1024 * 1024;
/** So much goes out in one write: one text of all lines could be longer than a text can be. */
const CHARACTERS_AT_ONCE = 1024 * 1024;
const LINE_END = 10;

/**
 * The journal of a node's disk, `stitches.jsonl`: a line for each state of a record, and of each id the last one counts; and one for
 * each program that was started, until it is gone. What is saved in one turn of the event loop is appended together, and of each
 * stitch only its newest state: a file for each stitch, written at each change, takes more of a command over a thousand stitches
 * than all else. A crash leaves a journal that ends earlier, perhaps in a piece of a line.
 *
 * All but `load` is beside the event loop. Where the disk does not answer, whoever waits is told so after 5 s, and what was saved is
 * written once it does.
 */
export class Journal {
  readonly #dir: string;
  readonly #path: string;
  readonly #onError: (error: unknown) => void;
  /** The newest line of each key: what the journal holds when it is written anew. */
  readonly #newest = new Map<string, JournalLine>();
  #unwritten = new Map<string, JournalLine>();
  /** The write that takes what is gathered; null where none is to come. */
  #planned: Promise<void> | null = null;
  /** Resolves when the last write has ended, however long that takes. */
  #lastEnded: Promise<void> = Promise.resolve();
  /** As `written`, of the last write. */
  #lastWritten: Promise<void> = Promise.resolve();
  /** The journal, open to append; null where it must be written anew. */
  #file: FileHandle | null = null;
  #characters = 0;
  /** It is written anew when it is longer. */
  #mostCharacters = 0;
  #closed = false;

  /** @param onError told of what could not be written; it is tried again with what is saved next. */
  constructor(dir: string, onError: (error: unknown) => void) {
    this.#dir = dir;
    this.#path = join(dir, "stitches.jsonl");
    this.#onError = onError;
  }

  /**
   * @throws JournalFormatRefused; NotOwn where another user has put the journal there; and where a line cannot be read:
   *   naming it, because guessing could start what was removed.
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
        // A crash has cut it off.
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

  /** It is put there with a whole first line: what has none was changed by somebody, or its disk has lost it. */
  #noJournal(): Error {
    return new Error(
      `${this.#path} is empty, or cut off in its first line; put a copy of it there, or delete it: ` +
        "the node then takes what Redis holds of its stitches",
    );
  }

  #checkFormat(text: string): void {
    const line = formatLine.safeParse(parsedOrNull(text));
    // Format 1 had no such line.
    const format = line.success ? line.data.format : 1;
    if (format !== FORMAT) throw new JournalFormatRefused(otherFormat(this.#path, String(format)));
  }

  /** Saves a line at the end of this turn of the event loop; see `written`. */
  save(line: JournalLine): void {
    this.saveLater(line);
    // Awaited by who needs it; all others are told by `onError`.
    if (this.#planned === null) this.#write().catch(() => undefined);
  }

  /** Saves a line with what is saved next, or when `written` is asked for. */
  saveLater(line: JournalLine): void {
    const key = keyOf(line);
    if (isOver(line)) this.#newest.delete(key);
    else this.#newest.set(key, line);
    this.#unwritten.set(key, line);
  }

  /** Resolves when all that was saved before is on disk. @throws where it could not be written, or not within 5 s. */
  written(): Promise<void> {
    if (this.#planned !== null) return this.#planned;
    return this.#unwritten.size > 0 ? this.#write() : this.#lastWritten;
  }

  /**
   * Writes what is left and lets go of the journal, which may be another worker's next: what is saved later is not written. Safe
   * to repeat. @returns false where the disk does not answer: then the journal must be no other worker's before this process ends.
   */
  async close(): Promise<boolean> {
    if (this.#closed) return true;
    // What could not be written has been told of. What is late may still be, and what takes it back goes behind it.
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

  /** One write after the other; what is saved while one is under way goes with the next. */
  #write(): Promise<void> {
    const before = this.#lastEnded;
    const write = async () => {
      await before;
      // At the end of this turn of the event loop: what is saved in it goes out together.
      await new Promise((resolve) => setImmediate(resolve));
      this.#planned = null;
      this.#lastWritten = written;
      await STATE_FILES.run(() => this.#commit());
      // It may have been late.
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
      // Somebody has deleted it: what is appended would be nowhere.
      if (facts?.nlink === 0) await this.#closeFile();
      sizeBefore = facts?.size ?? null;
      lines = this.#unwritten;
      this.#unwritten = new Map();
      if (this.#file === null) await this.#writeAnew();
      else this.#characters += await append(this.#file, lines);
    } catch (cause) {
      this.#unwritten = new Map([...lines, ...this.#unwritten]);
      // A piece of it may be there: nothing must go behind that, and the next life must find nothing of what was refused.
      if (sizeBefore !== null) await this.#file?.truncate(sizeBefore).catch(this.#onError);
      await this.#closeFile();
      throw new Error(`${this.#path} cannot be written; see to its disk`, { cause });
    }
    // What waits to be written may be refused yet.
    if (this.#characters > this.#mostCharacters && this.#unwritten.size === 0) await this.#shorten();
  }

  /** Where there is no room to write the journal anew, it is gone on with, and the next try is a while off. */
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
    // What is saved meanwhile goes with the next write, and may be refused.
    const lines = new Map(this.#newest);
    await mkdir(this.#dir, { recursive: true, mode: FOLDER_MODE });
    const file = await makeOwnFile(path);
    let characters = 0;
    try {
      await file.appendFile(`${JSON.stringify({ kind: "format", format: FORMAT })}\n`);
      characters = await append(file, lines);
      // Else a power cut may leave the new name and nothing behind it.
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

/** The lines of a file, as one text each, however long it is; none where there is no file. */
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
