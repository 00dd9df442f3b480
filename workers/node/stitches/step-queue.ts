import { compareRevisions, type Revision } from "../../../src/domain/names/revision.ts";
import { EventLoopThrottle } from "./event-loop-throttle.ts";

/** Runs work on the stitches of one node: in order for each stitch, at the same time for different stitches. */
export class StepQueue {
  /** The last work of each stitch, by stitch id. */
  readonly #last = new Map<string, Promise<unknown>>();
  /** The newest revision of each stitch's steps that wait or run, by stitch id. */
  readonly #newest = new Map<string, Revision>();
  readonly #throttle: EventLoopThrottle;

  /** @param steadyNowMs a monotonic clock. */
  constructor(steadyNowMs: () => number) {
    this.#throttle = new EventLoopThrottle(steadyNowMs);
  }

  /** Does any work on this stitch wait, or run? */
  isBusy(id: string): boolean {
    return this.#last.has(id);
  }

  /** Runs `work` after all other work on this stitch has ended, whether it succeeded or failed. */
  run<T>(id: string, work: () => Promise<T>): Promise<T> {
    const before = this.#last.get(id) ?? Promise.resolve();
    const running = before
      // The caller of that work gets its failure.
      .catch(() => undefined)
      .then(async () => {
        await this.nextTurn();
        return work();
      });
    this.#last.set(id, running);
    const forget = () => {
      if (this.#last.get(id) !== running) return;
      this.#last.delete(id);
      this.#newest.delete(id);
    };
    running.then(forget, forget);
    return running;
  }

  /** See `EventLoopThrottle.next`. */
  nextTurn(): Promise<void> {
    return this.#throttle.next();
  }

  /** The newest revision of this stitch's steps that wait or run; null if there are none. */
  newest(id: string): Revision | null {
    return this.#newest.get(id) ?? null;
  }

  /**
   * Announces a step of this revision, which is about to wait. @param
   * applied the revision of the last step that was applied to the stitch.
   * @returns whether the step is newer than every step before it, so that it need not wait for the running one.
   */
  announce(id: string, revision: Revision, applied: Revision): boolean {
    if (compareRevisions(revision, this.newest(id) ?? applied) <= 0) return false;
    this.#newest.set(id, revision);
    return true;
  }
}
