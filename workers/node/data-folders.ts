import { LATE, orLate } from "../../src/bounded-wait.ts";
import { ANSWER_MS, DATA_FOLDERS } from "./bounded-files.ts";
import type { StitchDisk } from "./stitch-disk.ts";

/** Folders looked into in one round: with thousands of stitches it is each one's turn now and then. */
const A_ROUND = 200;
/** At the same time: each has a file open meanwhile. */
const AT_ONCE = 4;

/** Knows which stitches keep something in their data folders. */
export class DataFolders {
  readonly #disk: StitchDisk;
  #withData = new Set<string>();
  #next = 0;

  constructor(disk: StitchDisk) {
    this.#disk = disk;
  }

  /**
   * Those of the stitches that are known to keep something, and of those whose turn it is, the ones whose folder does not
   * answer: they may. One that is known to is not looked at again.
   */
  async look(ids: readonly string[]): Promise<ReadonlySet<string>> {
    this.#withData = new Set(ids.filter((id) => this.#withData.has(id)));
    const unknown = ids.filter((id) => !this.#withData.has(id));
    if (this.#next >= unknown.length) this.#next = 0;
    const turn = unknown.slice(this.#next, this.#next + A_ROUND);
    this.#next += A_ROUND;
    const late = new Set<string>();
    const left = turn.values();
    const work = async () => {
      for (const id of left) {
        const found = await orLate(hasEntry(this.#disk.dataDir(id)), ANSWER_MS);
        if (found === LATE) late.add(id);
        else if (found) this.#withData.add(id);
      }
    };
    await Promise.all(Array.from({ length: AT_ONCE }, work));
    return late.size === 0 ? this.#withData : new Set([...this.#withData, ...late]);
  }
}

/** A stitch may have put a link in the place of its folder: that is something it keeps, and is not followed. */
async function hasEntry(path: string): Promise<boolean> {
  try {
    return !(await DATA_FOLDERS.lstat(path)).isDirectory() || (await DATA_FOLDERS.hasEntry(path));
  } catch {
    // Not made yet, or gone with its stitch: nothing is in it either way.
    return false;
  }
}
