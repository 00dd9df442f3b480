import { opendir } from "node:fs/promises";
import type { StitchDisk } from "./stitch-disk.ts";

/** Folders looked into in one round: with thousands of stitches it is each one's turn now and then. */
const A_ROUND = 200;

/** Knows which stitches keep something in their data folders. */
export class DataFolders {
  readonly #disk: StitchDisk;
  #withData = new Set<string>();
  #next = 0;

  constructor(disk: StitchDisk) {
    this.#disk = disk;
  }

  /** Those of the stitches that are known to keep something. One that does is not looked at again. */
  async look(ids: readonly string[]): Promise<ReadonlySet<string>> {
    this.#withData = new Set(ids.filter((id) => this.#withData.has(id)));
    const unknown = ids.filter((id) => !this.#withData.has(id));
    if (this.#next >= unknown.length) this.#next = 0;
    const turn = unknown.slice(this.#next, this.#next + A_ROUND);
    this.#next += A_ROUND;
    const found = await Promise.all(turn.map((id) => hasEntry(this.#disk.dataDir(id))));
    for (const [index, id] of turn.entries()) if (found[index] === true) this.#withData.add(id);
    return this.#withData;
  }
}

async function hasEntry(path: string): Promise<boolean> {
  try {
    const dir = await opendir(path);
    try {
      return (await dir.read()) !== null;
    } finally {
      await dir.close();
    }
  } catch {
    // Not made yet, or gone with its stitch: nothing is in it either way.
    return false;
  }
}
