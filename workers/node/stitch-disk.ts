import {
  appendFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import * as z from "zod";
import { removedRecord, type RemovedRecord, stitchRecord, type StitchRecord } from "../../src/domain/stitch.ts";

const file = z.discriminatedUnion("kind", [
  z.object({ kind: z.literal("stitch"), record: stitchRecord }),
  z.object({ kind: z.literal("removed"), record: removedRecord }),
]);

/** A record is so often written behind what it was before, until its file is written anew. */
const MOST_APPENDED = 50;

/**
 * What a node keeps of its stitches on its disk: `stitches/<id>.json`, `data/<id>/`, `logs/<id>.log`, `logs/<id>.log.<n>`;
 * and of a removed one under whose id there is another, `removed/<id>.<when it was removed>/`.
 *
 * A record's file holds a line for each state of it, and the last one counts. A line is appended: that costs a tenth of a
 * file that is written whole and renamed into place, and a command over five hundred stitches writes a thousand. A crash
 * leaves the old record, the new one, or a piece of the new one without a line end, behind the old one.
 */
export class StitchDisk {
  readonly #dir: string;
  /** How many lines were appended to a record's file since this process wrote it whole. */
  readonly #appended = new Map<string, number>();

  constructor(dir: string) {
    this.#dir = dir;
    mkdirSync(join(dir, "stitches"), { recursive: true });
  }

  /** @throws where a record cannot be read: naming the file, because guessing could start what was removed. */
  load(): { stitches: StitchRecord[]; removed: RemovedRecord[] } {
    const stitches: StitchRecord[] = [];
    const removed: RemovedRecord[] = [];
    for (const name of readdirSync(join(this.#dir, "stitches"))) {
      if (!name.endsWith(".json")) continue;
      const path = join(this.#dir, "stitches", name);
      try {
        const { kind, record } = lastOf(readFileSync(path, "utf8"));
        if (kind === "stitch") stitches.push(record);
        else removed.push(record);
      } catch (cause) {
        throw new Error(`${path} cannot be read as a stitch's record; repair or delete it`, { cause });
      }
    }
    return { stitches, removed };
  }

  save(record: StitchRecord): void {
    this.#write(record.id, { kind: "stitch", record });
  }

  saveRemoved(record: RemovedRecord): void {
    this.#write(record.id, { kind: "removed", record });
  }

  /** Deletes a removed stitch for good: its tombstone, data folder and log. */
  forget(id: string): void {
    this.#appended.delete(id);
    for (const path of [this.#record(id), this.dataDir(id), ...this.#logFiles(id)])
      rmSync(path, { recursive: true, force: true });
  }

  /** Is there data or a log that a new stitch under this id would take for its own? */
  hasLeftovers(id: string): boolean {
    return existsSync(this.dataDir(id)) || existsSync(this.logPath(id));
  }

  /** Puts the data of a removed stitch aside. @returns where its log is to go. Safe to repeat. */
  putAside(id: string, removedAtMs: number): string {
    const aside = join(this.#dir, "removed", `${id}.${removedAtMs}`);
    mkdirSync(aside, { recursive: true });
    if (existsSync(this.dataDir(id))) renameSync(this.dataDir(id), join(aside, "data"));
    return join(aside, `${id}.log`);
  }

  /** Deletes for good what was put aside of stitches that were removed before then. */
  forgetAside(beforeMs: number): void {
    const dir = join(this.#dir, "removed");
    for (const name of existsSync(dir) ? readdirSync(dir) : [])
      if (Number(name.split(".")[1]) < beforeMs) rmSync(join(dir, name), { recursive: true, force: true });
  }

  /** The stitch's own folder, made if it is not there. */
  makeDataDir(id: string): string {
    const path = this.dataDir(id);
    // To look costs a tenth of a try to make it; at nearly every start it is there.
    if (!existsSync(path)) mkdirSync(path, { recursive: true });
    return path;
  }

  dataDir(id: string): string {
    return join(this.#dir, "data", id);
  }

  logPath(id: string): string {
    return join(this.#dir, "logs", `${id}.log`);
  }

  #logFiles(id: string): string[] {
    const dir = join(this.#dir, "logs");
    if (!existsSync(dir)) return [];
    const names = readdirSync(dir).filter((name) => name === `${id}.log` || name.startsWith(`${id}.log.`));
    return names.map((name) => join(dir, name));
  }

  #record(id: string): string {
    return join(this.#dir, "stitches", `${id}.json`);
  }

  #write(id: string, content: z.input<typeof file>): void {
    const path = this.#record(id);
    const line = `${JSON.stringify(content)}\n`;
    const appended = this.#appended.get(id) ?? MOST_APPENDED;
    // Should this fail, a piece of the line may be there: the next one must not go behind it.
    this.#appended.delete(id);
    if (appended < MOST_APPENDED) {
      appendFileSync(path, line);
      this.#appended.set(id, appended + 1);
      return;
    }
    writeFileSync(`${path}.new`, line);
    renameSync(`${path}.new`, path);
    this.#appended.set(id, 0);
  }
}

/** @throws where the newest record in a file is none. */
function lastOf(text: string): z.output<typeof file> {
  const lines = text.split("\n");
  const piece = lines.pop() ?? "";
  // With no line before it, it is a whole record: the first one is not appended.
  return file.parse(JSON.parse(lines.at(-1) ?? piece));
}
