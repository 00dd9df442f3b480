import { orLate } from "../../../src/bounded-wait.ts";
import { ANSWER_MS, LOOKS, LOOKS_AT_ONCE } from "../files/bounded-files.ts";
import type { StitchDisk } from "./stitch-disk.ts";

/** Folders that one round checks. With thousands of stitches, each folder is checked only now and then. */
const A_ROUND = 200;
/** Knows which stitches keep data in their data folders. */
export class DataFolders {
  readonly #disk: StitchDisk;
  #withData = new Set<string>();
  /** Stitches whose folders have not answered yet. They may keep data. */
  readonly #unanswered = new Set<string>();
  #next = 0;
  #looking: Promise<void> | null = null;

  constructor(disk: StitchDisk) {
    this.#disk = disk;
  }

  /** Does the stitch keep data, as far as is known? */
  keeps(id: string): boolean {
    return this.#withData.has(id) || this.#unanswered.has(id);
  }

  /**
   * Checks the folders of some of these stitches; each call checks the next ones. A stitch that is known to keep data is
   * not checked again. One round at a time; it ends at the first folder that does not answer.
   */
  look(ids: readonly string[]): Promise<void> {
    this.#looking ??= this.#look(ids).finally(() => {
      this.#looking = null;
    });
    return this.#looking;
  }

  async #look(ids: readonly string[]): Promise<void> {
    this.#withData = new Set(ids.filter((id) => this.#withData.has(id)));
    const unknown = ids.filter((id) => !this.#withData.has(id));
    if (this.#next >= unknown.length) this.#next = 0;
    const turn = unknown.slice(this.#next, this.#next + A_ROUND);
    this.#next += A_ROUND;
    for (const id of turn) {
      // Any other check would only wait for the folders that do not answer.
      if (this.#unanswered.size >= LOOKS_AT_ONCE) return;
      this.#unanswered.add(id);
      const looked = hasEntry(this.#disk.dataDir(id)).then((found) => {
        this.#unanswered.delete(id);
        if (found) this.#withData.add(id);
      });
      await orLate(looked, ANSWER_MS);
    }
  }
}

/** A stitch may have replaced its folder with a link. The link counts as data and is not followed. */
async function hasEntry(path: string): Promise<boolean> {
  try {
    return !(await LOOKS.lstat(path)).isDirectory() || (await LOOKS.hasEntry(path));
  } catch {
    // The folder is not made yet, or is gone with its stitch. It holds no data in both cases.
    return false;
  }
}
