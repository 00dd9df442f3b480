import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import * as z from "zod";
import { removedRecord, type RemovedRecord, stitchRecord, type StitchRecord } from "../../src/domain/stitch.ts";

const file = z.discriminatedUnion("kind", [
  z.object({ kind: z.literal("stitch"), record: stitchRecord }),
  z.object({ kind: z.literal("removed"), record: removedRecord }),
]);

/**
 * What a node keeps of its stitches on its disk: `stitches/<id>.json`, `data/<id>/`, `logs/<id>.log`, `logs/<id>.log.<n>`.
 * Records are written whole and renamed into place, so that a crash leaves the old or the new one.
 */
export class StitchDisk {
  readonly #dir: string;

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
        const { kind, record } = file.parse(JSON.parse(readFileSync(path, "utf8")));
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
    for (const path of [this.#record(id), this.dataDir(id), ...this.#logFiles(id)])
      rmSync(path, { recursive: true, force: true });
  }

  /** The stitch's own folder, made if it is not there. */
  makeDataDir(id: string): string {
    mkdirSync(this.dataDir(id), { recursive: true });
    return this.dataDir(id);
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
    writeFileSync(`${path}.new`, JSON.stringify(content));
    renameSync(`${path}.new`, path);
  }
}
