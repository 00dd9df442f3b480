import { type Dispatch, dispatchId } from "../../../src/domain/job/job.ts";
import { WorkerLeaves } from "../stitches/hosted-stitch.ts";
import type { StitchDisk } from "../stitches/stitch-disk.ts";

/**
 * Maximum characters of the tasks that wait here. Beyond that, a task keeps its place in the queue until it has ended: a
 * task that BullMQ holds costs this worker nothing.
 */
const MOST_CHARACTERS = 256 * 1024 * 1024;
/** The cost of a waiting task besides its own text: about 8 KB of the worker's memory, measured with ten thousand tasks. */
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
 * The tasks that wait for stitches to come up, which may take minutes. They hold no place in the node's queue: the journal
 * on disk keeps them instead of BullMQ. A task is forgotten when its outcomes are in Redis. Tasks that are left at the
 * worker's end are for the next run of the worker.
 */
export class TaskJournal {
  readonly #options: TaskJournalOptions;
  readonly #open = new Map<string, { readonly task: Dispatch; readonly ended: Promise<void> }>();
  #characters = 0;

  constructor(options: TaskJournalOptions) {
    this.#options = options;
  }

  /**
   * Takes over a task. Does nothing if the task is here already: then it was delivered again. Resolves
   * when the task is on disk or has ended. If too much waits here already, the task is carried out
   * without the journal; resolves when it has ended.
   * @param work carries out the task, which this worker has claimed.
   * @param again claims the task and carries it out; called after Redis has failed.
   * @throws if the task is neither on disk nor ended: the worker leaves, and its disk takes nothing.
   */
  async take(task: Dispatch, work: () => Promise<void>, again: () => Promise<void>): Promise<void> {
    const id = dispatchId(task.job, task.task);
    if (this.#open.has(id)) return;
    const characters = charactersOf(task);
    if (this.#characters + characters > (this.#options.mostCharacters ?? MOST_CHARACTERS)) return work();
    this.#options.disk.saveTask(id, task);
    const ended = this.#begin(task, characters, work, again);
    // In the next turn, the first steps of the task save their records. All of that goes to disk at once.
    await new Promise((resolve) => setImmediate(resolve));
    await this.#options.disk.written().catch(() => ended);
  }

  /** The task with this `dispatchId`, if it is here. */
  find(id: string): Dispatch | undefined {
    return this.#open.get(id)?.task;
  }

  /** Continues the tasks that an earlier run of the worker has left. Does not wait for them. */
  resume(tasks: readonly Dispatch[], again: (task: Dispatch) => Promise<void>): void {
    for (const task of tasks) {
      const run = () => again(task);
      void this.#begin(task, charactersOf(task), run, run);
    }
  }

  /** Resolves when no task is in progress any more. */
  async idle(): Promise<void> {
    await Promise.allSettled([...this.#open.values()].map(({ ended }) => ended));
  }

  #begin(task: Dispatch, characters: number, work: () => Promise<void>, again: () => Promise<void>): Promise<void> {
    const id = dispatchId(task.job, task.task);
    this.#characters += characters;
    const ended = this.#untilDone(id, work, again).finally(() => {
      this.#open.delete(id);
      this.#characters -= characters;
    });
    this.#open.set(id, { task, ended });
    // If the worker leaves first, the task stays in the journal, and nobody needs this error.
    ended.catch(() => undefined);
    return ended;
  }

  /** @throws if the worker leaves or has ended. */
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
