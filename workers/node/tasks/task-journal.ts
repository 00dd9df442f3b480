import { type Dispatch, dispatchId } from "../../../src/domain/job/job.ts";
import { WorkerLeaves } from "../stitches/hosted-stitch.ts";
import type { StitchDisk } from "../stitches/stitch-disk.ts";

/**
 * Characters of tasks that wait here at once. Beyond that a task keeps its place in the queue until it has ended: what BullMQ
 * holds costs this worker nothing.
 */
const MOST_CHARACTERS = 256 * 1024 * 1024;
/** What a waiting task costs beside its own text: some 8 KB of the worker's memory, measured with ten thousand. */
const EACH_CHARACTERS = 8 * 1024;

type TaskJournalOptions = {
  readonly disk: StitchDisk;
  /** See `TaskRunnerOptions.nextBeat`. */
  readonly nextBeat: () => Promise<void>;
  readonly onError: (error: unknown) => void;
  /** For tests. Default: `MOST_CHARACTERS`. */
  readonly mostCharacters?: number;
};

/**
 * The tasks that wait for stitches to come up, which may take minutes: they hold no place in the node's queue, and the
 * journal on disk answers for them instead of BullMQ. Forgotten when their outcomes are in Redis; what is left at the
 * worker's end is for its next life.
 */
export class TaskJournal {
  readonly #options: TaskJournalOptions;
  readonly #open = new Map<string, Promise<void>>();
  #characters = 0;

  constructor(options: TaskJournalOptions) {
    this.#options = options;
  }

  /**
   * Takes a task over, unless it has it: then it was delivered again. Resolves when it is on disk, or has ended. Where too much
   * waits here already, the task is carried out without: it resolves when that has ended.
   * @param work carries it out, in a worker that has claimed it.
   * @param again claims it, and carries it out; called where Redis has failed.
   * @throws where neither is so: the worker leaves, and its disk takes nothing.
   */
  async take(task: Dispatch, work: () => Promise<void>, again: () => Promise<void>): Promise<void> {
    const id = dispatchId(task.job, task.task);
    if (this.#open.has(id)) return;
    const characters = charactersOf(task);
    if (this.#characters + characters > (this.#options.mostCharacters ?? MOST_CHARACTERS)) return work();
    this.#options.disk.saveTask(id, task);
    const ended = this.#begin(id, characters, work, again);
    // In the next turn its first steps save their records: all of it goes to disk at once.
    await new Promise((resolve) => setImmediate(resolve));
    await this.#options.disk.written().catch(() => ended);
  }

  /** Goes on with the tasks that a former life of the worker has left. Does not wait for them. */
  resume(tasks: readonly Dispatch[], again: (task: Dispatch) => Promise<void>): void {
    for (const task of tasks) {
      const run = () => again(task);
      void this.#begin(dispatchId(task.job, task.task), charactersOf(task), run, run);
    }
  }

  /** Resolves when none is under way any more. */
  async idle(): Promise<void> {
    await Promise.allSettled(this.#open.values());
  }

  #begin(id: string, characters: number, work: () => Promise<void>, again: () => Promise<void>): Promise<void> {
    this.#characters += characters;
    const ended = this.#untilDone(id, work, again).finally(() => {
      this.#open.delete(id);
      this.#characters -= characters;
    });
    this.#open.set(id, ended);
    // Where the worker leaves before, it stays in the journal, and nobody need hear of that.
    ended.catch(() => undefined);
    return ended;
  }

  /** @throws where the worker leaves or has ended. */
  async #untilDone(id: string, work: () => Promise<void>, again: () => Promise<void>): Promise<void> {
    for (let attempt = work; ; attempt = again) {
      try {
        await attempt();
        this.#options.disk.forgetTask(id);
        return;
      } catch (error) {
        if (error instanceof WorkerLeaves) throw error;
        this.#options.onError(error);
      }
      await this.#options.nextBeat();
    }
  }
}

const charactersOf = (task: Dispatch): number => JSON.stringify(task).length + EACH_CHARACTERS;
