import { orLate } from "../../../src/bounded-wait.ts";
import { ANSWER_MS, LOOKS, LOOKS_AT_ONCE } from "../files/bounded-files.ts";
import type { StitchDisk } from "./stitch-disk.ts";

/** Folders looked into in one round: with thousands of stitches it is each one's turn now and then. */
const A_ROUND = 200;
/** Knows which stitches keep something in their data folders. */
export class DataFolders {
  readonly #disk: StitchDisk;
  #withData = new Set<string>();
  /** Those whose folders have not answered yet. They may keep something. */
  readonly #unanswered = new Set<string>();
  #next = 0;
  #looking: Promise<void> | null = null;

  constructor(disk: StitchDisk) {
    this.#disk = disk;
  }

  /** Does it keep something, as far as is known? */
  keeps(id: string): boolean {
    return this.#withData.has(id) || this.#unanswered.has(id);
  }

  /**
   * Looks into the folders of some of these stitches, each time into the next ones; one that is known to keep something is not
   * looked at again. One look at a time; it ends at the first folder that does not answer.
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
      // Whatever else is looked into would only wait for those.
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

/** A stitch may have put a link in the place of its folder: that is something it keeps, and is not followed. */
async function hasEntry(path: string): Promise<boolean> {
  try {
    return !(await LOOKS.lstat(path)).isDirectory() || (await LOOKS.hasEntry(path));
  } catch {
    // Not made yet, or gone with its stitch: nothing is in it either way.
    return false;
  }
}
